"""A checkpoint from the Hugging Face hub, by its id ("HuggingFaceTB/SmolLM2-135M-Instruct"), into the hub's own cache.

The huggingface_hub library does the work, so its settings hold: HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME, tokens, proxies.
Read next: weights/huggingface.py
"""

from __future__ import annotations

from pathlib import Path

from cutaway.base.errors import NotFound

# What a model and its tokenizer consist of. Not the same weights once more in other formats, nor those of folders.
WANTED = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "*.jinja",
    "chat_template.json",
)


def fetch(repo_id: str, revision: str | None = None) -> Path:
    """The folder of a repository's files, fetched where the cache lacks them. `revision`: a branch, tag or commit.

    Raises NotFound, in one line, for whatever keeps it from being there: unknown, gated, offline, unreachable.
    """
    # Here and not above: the library takes a third of a second to load, and most models come from elsewhere.
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(WANTED), ignore_patterns=["*/*"]))
    # The library lets errors of many families through: its own, its HTTP client's, those of sockets and files.
    except Exception as error:
        raise NotFound(f"{repo_id} cannot be had from the hub: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The error in one line of a sentence or two."""
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return 'that is no repository id (expected "owner/name")'
    if isinstance(error, errors.GatedRepoError):
        return "its owner gives access on request alone: ask on its page, then log in (`hf auth login`)"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository, or it is private"
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "it is not in the cache, and the hub cannot be reached (or HF_HUB_OFFLINE is set)"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
