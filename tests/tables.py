"""Tables that tests print at the end of a session, also where several processes ran the tests."""

import pytest

TABLES = pytest.StashKey[dict]()


def add_rows(config, title, rows):
    """More rows, of plain values, for the table under this title; the first one is its head."""
    head, *rest = rows
    table = config.stash.setdefault(TABLES, {}).setdefault(title, [list(head)])
    table += [list(row) for row in rest]


def markdown(rows):
    """The rows as Markdown, the first as its head."""
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


class Tables:
    """The plugin: from the processes that run tests to the one that reports, and there printed."""

    @staticmethod
    def pytest_sessionfinish(session):
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["tables"] = session.config.stash.get(TABLES, {})

    @staticmethod
    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(node):
        # a process that has crashed hands nothing over
        for title, rows in getattr(node, "workeroutput", {}).get("tables", {}).items():
            add_rows(node.config, title, rows)

    @staticmethod
    def pytest_terminal_summary(terminalreporter, config):
        for title, rows in config.stash.get(TABLES, {}).items():
            terminalreporter.section(title)
            terminalreporter.write_line(markdown(rows))
