"""Sphinx, furo and MyST. Build: make docs"""

from importlib import metadata

project = "wsgi-asgi"
author = "the wsgi-asgi authors"
release = metadata.version("wsgi-asgi")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

# Docstrings write `threads` for a name, without saying what kind of name.
default_role = "literal"
# Pages quote what programs say, letter by letter.
smartquotes = False
# Pages link to sections of other pages by their titles.
myst_heading_anchors = 2
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

nitpicky = True
# The build needs no network, so other projects' names cannot be looked up.
nitpick_ignore_regex = [
    ("py:.*", r"(asgiref|collections|concurrent|wsgiref|_typeshed)\..*"),
    ("py:.*", r"wsgi_asgi\._types\..*"),  # ASGI's own shapes, under short names
]

html_theme = "furo"
html_title = "wsgi-asgi"
html_show_copyright = False
# The whole conformance page, beside index.html; the docs' own is the short one.
html_extra_path = ["reference/conformance.html"]
