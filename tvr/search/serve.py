"""The search as a page in the browser, on this machine only.

Nothing that a request holds reaches the file system: videos and previews go by their number in the
index, and a video is sent only where it still lies inside the indexed folder.
"""

from __future__ import annotations

import json
import logging
import socket
from contextlib import suppress
from dataclasses import replace
from mimetypes import guess_type
from pathlib import Path, PurePath

from flask import Flask, Response, abort, request, send_file, send_from_directory
from waitress import create_server
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.wrappers import Response as PlainResponse

from tvr.pages.html import BASE_STYLE, STATIC, environment, printable
from tvr.pages.pictures import still_of
from tvr.search.answers import described
from tvr.search.engine import Answer, Engine, Hit
from tvr.search.page import TEMPLATES, Card
from tvr.search.question import MOST, Question, read_question
from tvr.utils.errors import UserError

HOST = "127.0.0.1"
METHODS = ["GET", "HEAD"]
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "media-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def serve(engine: Engine, port: int) -> None:
    """Answer until Ctrl-C, on `port` or for 0 on any free one, and print the address.

    Raises:
        UserError: the port cannot be had.
    """
    # A page asks for all its previews at once, which is no news
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    try:
        listening = socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise UserError(f"--port {port}: {reason}. Name another port, or 0 for any.") from error
    # A large video that a browser pauses keeps a thread waiting, so there are some to spare
    server = create_server(create_app(engine), sockets=[listening], threads=16, ident=None)
    # Ctrl-C is the way to end it, also in the moment before the server listens for it
    with suppress(KeyboardInterrupt):
        print(f"Open http://{HOST}:{listening.getsockname()[1]}/ (Ctrl-C ends it)", flush=True)
        server.run()


def create_app(engine: Engine) -> Flask:
    """The pages over an open index, for who asks for this machine."""
    app = Flask(__name__, template_folder=None)
    # Another site's name that leads to this machine (DNS rebinding) must not read the answers
    app.config["TRUSTED_HOSTS"] = [HOST, "localhost"]
    site = Site(engine)
    app.before_request(refuse_other_methods)
    app.before_request(refuse_other_sites)
    app.after_request(add_headers)
    app.register_error_handler(HTTPException, site.error)
    app.add_url_rule("/", view_func=site.search_page)
    app.add_url_rule("/api/search", view_func=site.search_json)
    app.add_url_rule(f"/static/{BASE_STYLE}", view_func=base_style)
    app.add_url_rule("/preview/<int:row>.webp", view_func=site.preview)
    app.add_url_rule("/still/<int:row>.webp", view_func=site.still)
    app.add_url_rule("/video/<int:row>", view_func=site.video)
    return app


def refuse_other_methods() -> None:
    """Nothing here changes anything: only GET, and HEAD with it."""
    if request.method not in METHODS:
        raise MethodNotAllowed(METHODS)


def refuse_other_sites() -> None:
    """Another site may link here, but not have pictures, videos or answers loaded by its pages."""
    sent = request.headers
    if sent.get("Sec-Fetch-Site") == "cross-site" and sent.get("Sec-Fetch-Mode") != "navigate":
        abort(403, "Another site's page asked for this. Open the address itself.")


def add_headers(response: Response) -> Response:
    """The headers that every answer has."""
    response.headers.update(HEADERS)
    return response


def base_style() -> Response:
    """The part of the style sheet that other pages have as well."""
    return send_from_directory(STATIC, BASE_STYLE)


class Site:
    """What is answered to each address."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.template = environment(TEMPLATES).get_template("search.html")

    def search_page(self) -> str:
        """The box, and beneath it the results where there is a query."""
        if "q" not in request.args:
            return self.page(Question())
        question, answer = self.search()
        return self.page(question, answer)

    def search_json(self) -> Response:
        """The results for programs."""
        _, answer = self.search()
        found = described(answer, self.engine.folder)
        for hit, about in zip(answer.hits, found["hits"], strict=True):
            card = self.card(hit)
            about |= {"preview": card.moving, "video": card.video}
        return as_json(found)

    def preview(self, row: int) -> PlainResponse:
        """A video's animated preview."""
        return as_picture(self.preview_of(row))

    def still(self, row: int) -> PlainResponse:
        """The first frame of that preview."""
        return as_picture(still_of(self.preview_of(row)))

    def video(self, row: int) -> Response:
        """The file itself, in ranges where they are asked for."""
        self.check_row(row)
        name = self.engine.path(row)
        try:
            return as_video(locate(self.engine.folder, name), name)
        except FileNotFoundError as error:
            abort(404, f"Video {row}: {error}.")

    def error(self, error: HTTPException) -> PlainResponse:
        """What went wrong, in a sentence, with the status and the headers that belong to it."""
        response = error.get_response()
        if request.path.startswith("/api/"):
            told = as_json({"error": error.description})
        else:
            query = request.args.get("q", "")[: MOST["q"]]
            message = error.name, error.description or ""
            told = Response(self.page(Question(query), message=message))
        response.data, response.content_type = told.data, told.content_type
        return response

    def search(self) -> tuple[Question, Answer]:
        """The request's question and its answer; an error page where it cannot be answered."""
        try:
            question = read_question(request.args)
            answers = self.engine.search(
                [question.query], question.topk, question.candidates, question.exact
            )
        except UserError as error:
            abort(400, str(error))
        return question, answers[0]

    def page(
        self,
        question: Question,
        answer: Answer | None = None,
        message: tuple[str, str] | None = None,
    ) -> str:
        """The page with the box, and an answer or a message."""
        return self.template.render(
            question=question,
            answer=answer,
            cards=[self.card(hit) for hit in answer.hits] if answer else [],
            message=message,
            # Who meets an error may be a stranger, who is not told about the index (`create_app`)
            facts={} if message else self.engine.describe(),
            most=MOST,
        )

    def card(self, hit: Hit) -> Card:
        """A hit with the addresses where this server has its pictures and its video."""
        card = Card(hit)
        if self.engine.preview(hit.row):
            card = replace(card, moving=f"/preview/{hit.row}.webp", still=f"/still/{hit.row}.webp")
        try:
            locate(self.engine.folder, hit.path)
        except FileNotFoundError as error:
            return replace(card, trouble=str(error))
        return replace(card, video=f"/video/{hit.row}")

    def preview_of(self, row: int) -> bytes:
        """The preview's bytes; an error page where there is none."""
        self.check_row(row)
        return self.engine.preview(row) or abort(404, f"Video {row} has no preview.")

    def check_row(self, row: int) -> None:
        """An error page for a number that is not in the index."""
        if row >= self.engine.gallery:
            abort(404, f"Video {row}: the index holds {self.engine.gallery}, counted from 0.")


def locate(folder: Path, name: str) -> Path:
    """The file of that name inside the folder, with symbolic links followed.

    Raises:
        FileNotFoundError: there is none any more, with the reason in a few words.
    """
    try:
        file = (folder / name).resolve(strict=True)
        root = folder.resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        # Beside what is missing: a null byte, and up to Python 3.12 links in a circle
        raise FileNotFoundError("file is gone") from error
    if not file.is_relative_to(root):
        raise FileNotFoundError("file lies outside the indexed folder")
    if not file.is_file():
        raise FileNotFoundError("no longer a file")
    return file


def as_video(file: Path, name: str) -> Response:
    """A video as a response that can be asked for in ranges.

    Raises:
        FileNotFoundError: it cannot be read.
    """
    kind = guess_type(name)[0] or ""
    try:
        status = file.stat()
        return send_file(
            file,
            # Whatever a file in the folder is called, a browser must not take it for a page
            mimetype=kind if kind.startswith("video/") else "application/octet-stream",
            download_name=printable(PurePath(name).name),
            conditional=True,
            etag=f"{status.st_mtime_ns}-{status.st_size}",
        )
    except OSError as error:
        raise FileNotFoundError(f"file cannot be read ({error.strerror})") from error


def as_picture(webp: bytes) -> PlainResponse:
    """A WebP that a browser may keep as long as it asks whether it is still the same."""
    response = Response(webp, mimetype="image/webp")
    response.cache_control.no_cache = True
    response.add_etag()
    return response.make_conditional(request)


def as_json(value: object) -> Response:
    """JSON in ASCII: what in a file name is not UTF-8 becomes an escape, too."""
    return Response(json.dumps(value) + "\n", mimetype="application/json")
