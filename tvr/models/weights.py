"""OpenAI's CLIP archives: where they lie, how they are fetched, and what they must hash to."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from pathlib import Path

from tqdm import tqdm

from tvr.utils.distributed import local_leader_first
from tvr.utils.errors import UserError

WEIGHTS_DIR = Path(__file__).parent
DOWNLOAD_ROOT = "https://openaipublic.azureedge.net/clip/models"
OPENAI_SHA256 = {
    "ViT-B/32": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B/16": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "ViT-L/14": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
}


def openai_file(name: str, folder: Path = WEIGHTS_DIR, root: str = DOWNLOAD_ROOT) -> Path:
    """The archive of `name` in `folder`, downloaded where it is missing; checksum verified.

    Raises:
        UserError: wrong checksum, or missing and not to be had.
    """
    path = folder / (name.replace("/", "-") + ".pt")
    expected = OPENAI_SHA256[name]
    with local_leader_first():
        if not path.exists():
            download(f"{root}/{expected}/{path.name}", path, expected)
    verify_sha256(path, expected)
    return path


def download(url: str, path: Path, sha256: str) -> None:
    """Fetch `url` under a temporary name and verify it before it gets its own: never half a file.

    Raises:
        UserError: the file could not be fetched or has another checksum.
    """
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with urllib.request.urlopen(url, timeout=60) as source, part.open("wb") as target:
            total = int(source.headers.get("Content-Length") or 0) or None
            with tqdm(total=total, unit="B", unit_scale=True, desc=path.name) as bar:
                while chunk := source.read(1 << 20):
                    target.write(chunk)
                    bar.update(len(chunk))
        digest = sha256_of(part)
        if digest != sha256:
            raise UserError(
                f"{url}: what was downloaded has SHA-256 {digest}, OpenAI's file has {sha256}. "
                f"It was thrown away; try again, or put the right file at {path}."
            )
        part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise UserError(
            f"{path} is missing and could not be downloaded from {url} ({error}). Put the file "
            "there by hand, or name another --base_encoder (a path, open_clip:NAME/TAG, tiny)."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def verify_sha256(path: Path, expected: str) -> None:
    """Raises UserError where the file's SHA-256 is not the published one."""
    digest = sha256_of(path)
    if digest != expected:
        raise UserError(
            f"{path}: wrong checksum. Its SHA-256 is {digest}, OpenAI's file has {expected}. "
            "Delete the file and run again to download it."
        )


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()
