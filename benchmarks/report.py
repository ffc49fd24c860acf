"""A run as text: Markdown whose tables are aligned, for terminals and pages."""

from collections.abc import Iterable, Sequence

from benchmarks.contenders import CONTENDERS, OURS
from benchmarks.growth import Series, find_series
from benchmarks.results import CaseResult, Results
from benchmarks.servers import WEBSOCKET_SERVER, WSGI_SERVERS
from benchmarks.statistics import Spread, median
from benchmarks.targets import TARGETS, judge

__all__ = ["show_case", "show_results", "show_targets"]

_NATIVE = (*WSGI_SERVERS, WEBSOCKET_SERVER)
_ORDER = [*(one.name for one in CONTENDERS), *(kind.name for kind in _NATIVE)]


def _number(value: float) -> str:
    """Give two or three digits that say something.

    >>> [_number(value) for value in (1234.5, 56.78, 3.456, 0.0123)]
    ['1,234', '57', '3.5', '0.012']
    """
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 2 else f"{value:.2g}"


def _spread(ratio: Spread) -> str:
    return f"{_number(ratio.median)} ({_number(ratio.low)} to {_number(ratio.high)})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *body]
    return "\n".join(
        f"| {' | '.join(cell.ljust(w) for cell, w in zip(line, widths, strict=True))} |"
        for line in lines
    )


def _contenders(cases: Iterable[CaseResult]) -> list[str]:
    """Give who took part, in the order of the registry."""
    names = {name for case in cases for name in (*case.rates, *case.troubles)}
    known = [name for name in _ORDER if name in names]
    return known + sorted(names - set(known))


def _seconds(seconds: float) -> str:
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{_number(seconds * factor)} {unit}"
    return f"{_number(seconds)} s"


def show_case(case: CaseResult) -> str:
    """Give one line about a case that has just run."""
    if OURS not in case.rates:
        trouble = case.troubles.get(OURS)
        return f"{case.title} ({case.setting}): ours {trouble and trouble.text}"
    found = [f"{_number(median(case.rates[OURS]))} {case.unit}/s"]
    for name in _contenders([case]):
        if name in case.troubles:
            found.append(f"{name} {case.troubles[name].kind.value}")
        elif name != OURS and (ratio := case.ratio(name)):
            found.append(f"{name} x{_number(ratio.median)}")
    return f"{case.title} ({case.setting}): {', '.join(found)}"


def _ratio_cell(case: CaseResult, name: str) -> str:
    if name in case.troubles:
        return case.troubles[name].kind.value
    ratio = case.ratio(name)
    return _spread(ratio) if ratio else ""


def _ratios(cases: Sequence[CaseResult]) -> str:
    names = [name for name in _contenders(cases) if name != OURS]
    rows = []
    for case in cases:
        ours = case.rates.get(OURS)
        rate = f"{_number(median(ours))} {case.unit}/s" if ours else ""
        trouble = case.troubles.get(OURS)
        rate = trouble.kind.value if trouble else rate
        rows.append([case.title, rate, *(_ratio_cell(case, name) for name in names)])
    return _table(["case", OURS, *names], rows)


def _latency_cell(case: CaseResult, name: str) -> str:
    rounds = case.latencies.get(name)
    if not rounds:
        return ""
    middles = (median([one[p] for one in rounds]) for p in ("p50", "p90", "p99"))
    return " / ".join(_number(1000 * seconds) for seconds in middles)


def _latencies(cases: Sequence[CaseResult]) -> str:
    rows = [
        [name, *(_latency_cell(case, name) for case in cases)]
        for name in _contenders(cases)
    ]
    return _table(["", *(case.title for case in cases)], rows)


def _growth(series: Series) -> str:
    names = [name for name in _ORDER if name in series.seconds]
    rows = [
        [
            f"{size:,}",
            *(
                _seconds(series.seconds[name][size])
                if size in series.seconds[name]
                else "none"
                for name in names
            ),
        ]
        for size in series.sizes
    ]
    excesses = [series.excess(name) for name in names]
    rows.append(["largest / best", *(_number(one) if one else "" for one in excesses)])
    return _table([series.name, *names], rows)


def show_targets(results: Results) -> str:
    """Give the table of targets."""
    rows = []
    for target in TARGETS:
        found = judge(target, results)
        measured = _spread(found.measured) if found.measured else ""
        reached = {True: "yes", False: "no", None: ""}[found.reached]
        note = f" ({found.note})" if found.note else ""
        rows.append(
            [
                f"{found.title}, {target.setting}",
                target.against,
                target.words,
                measured,
                f"{reached}{note}".strip(),
            ]
        )
    return _table(["case", "against", "at least", "measured", "reached?"], rows)


def _conditions(results: Results) -> str:
    machine = ", ".join(f"{key} {value}" for key, value in results.machine.items())
    versions = ", ".join(f"{key} {value}" for key, value in results.versions.items())
    settings = ", ".join(f"{key} {value}" for key, value in results.settings.items())
    threads = ", ".join(f"{one.name} {one.threads}" for one in (*CONTENDERS, *_NATIVE))
    return (
        f"Machine: {machine}.\n\nVersions: {versions}.\n\nRun: {settings}.\n\n"
        f"Threads that run applications: {threads}."
    )


def _troubles(cases: Iterable[CaseResult]) -> str:
    return "\n".join(
        f"- {name}, {case.title}, {case.setting}: {trouble.kind.value}: {trouble.text}"
        for case in cases
        for name, trouble in case.troubles.items()
    )


def show_results(results: Results) -> str:
    """Give all tables of a run."""
    parts = [_conditions(results)]
    plain = [case for case in results.cases if case.growth is None]
    for setting in dict.fromkeys(case.setting for case in plain):
        cases = [case for case in plain if case.setting == setting]
        parts.append(
            f"**{setting.capitalize()}**: how many times as fast as each other "
            f"wsgi-asgi is, as the median of the rounds, with their quartiles\n\n"
            f"{_ratios(cases)}"
        )
        timed = [case for case in cases if case.latencies]
        if timed:
            parts.append(
                f"**{setting.capitalize()}**: milliseconds that 50, 90 and 99 % of "
                f"the requests took at most\n\n{_latencies(timed)}"
            )
    parts += [
        f"**Time of one {series.unit}**\n\n{_growth(series)}"
        for series in find_series(results.cases)
    ]
    troubles = _troubles(results.cases)
    if troubles:
        parts.append(f"**No numbers**\n\n{troubles}")
    parts.append(f"**Targets**\n\n{show_targets(results)}")
    return "\n\n".join(parts) + "\n"
