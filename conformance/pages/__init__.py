"""The pages about a run: Markdown for the docs, and one HTML file to look at.

Both say the same, from the same cells: `markdown` writes it in short, `webpage` with
everything in it. The files beside these modules are the parts of the HTML page that
no run changes.
"""
