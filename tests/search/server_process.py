"""The server as a user starts and ends it, and asking it."""

import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import urlencode

from programs import ENVIRONMENT, ROOT

ADDRESS = r"Open (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)\n"


@contextmanager
def serving(index):
    """A server process; gives its address, and ends it with Ctrl-C."""
    command = [sys.executable, "-m", "tvr.search", "serve", "--index", str(index), "--port", "0"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found = re.fullmatch(ADDRESS, process.stdout.readline())
        yield found and found[1]
    finally:
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate()
    assert found, errors
    assert (process.returncode, rest) == (0, "")
    assert "Traceback" not in errors


def ask(client, address="/", **parameters):
    return client.get(f"{address}?{urlencode(parameters)}")


def fetch(address, path):
    """The status and the body of a path that is sent as it is."""
    connection = HTTPConnection(*address)
    connection.putrequest("GET", path)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body
