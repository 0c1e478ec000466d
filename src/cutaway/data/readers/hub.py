"""A data set of the Hugging Face hub, through the Parquet files that the hub keeps of each.

They stand in its branch `refs/convert/parquet` as CONFIG/SPLIT/0000.parquet, so that no script of anybody's is run and
the `datasets` library is not needed.   Read next: data/readers/columns.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cutaway.base.errors import BadInput, NotFound
from cutaway.base.names import did_you_mean
from cutaway.data.entry import Entry
from cutaway.data.readers import columns

PREFIX = "hub:"
BRANCH = "refs/convert/parquet"


def read(name: str, *, field: str = "text") -> Iterator[Entry]:
    """The documents of `hub:OWNER/NAME`, or `hub:OWNER/NAME:CONFIG/SPLIT`; "train" of the only configuration where
    nothing is said. Files are fetched one after another, into the hub's own cache."""
    from huggingface_hub import hf_hub_download, list_repo_files
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    identity, _, part = name.removeprefix(PREFIX).partition(":")
    try:
        listed = list_repo_files(identity, repo_type="dataset", revision=BRANCH)
        for file in choose(listed, part, name):
            path = Path(hf_hub_download(identity, file, repo_type="dataset", revision=BRANCH))
            for entry in columns.read(path, field=field):
                yield entry._replace(source=f"{name}/{file}")
    except HFValidationError as error:
        raise BadInput(f"is no name of a data set: {error}", source=name) from error
    except (HfHubHTTPError, OfflineModeIsEnabled, ConnectionError) as error:
        raise NotFound(f"{name}: cannot be had from the hub: {' '.join(str(error).split())[:300]}") from error


def choose(listed: list[str], part: str, name: str) -> list[str]:
    """Those Parquet files that belong to `part` (CONFIG/SPLIT, or "")."""
    files = sorted(file for file in listed if file.endswith(".parquet") and file.count("/") == 2)
    by_part: dict[str, list[str]] = {}
    for file in files:
        by_part.setdefault(file.rpartition("/")[0], []).append(file)
    if not by_part:
        raise NotFound(f"{name}: the hub has no Parquet files of this data set")
    if not part:
        trains = [one for one in by_part if one.endswith("/train")]
        if len(trains) != 1:
            raise BadInput(f"has several parts: {', '.join(by_part)}; say which, as {name}:{next(iter(by_part))}")
        part = trains[0]
    if part not in by_part:
        raise NotFound(f'{name}: there is no part "{part}"{did_you_mean(part, by_part)}')
    return by_part[part]
