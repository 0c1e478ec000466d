"""lm-evaluation-harness asks the server, over HTTP, and comes to what the model itself comes to.

    python bench/evaluation_server.py --data FOLDER --python PYTHON [--limit 100] [--out FILE]

PYTHON is one of an environment of its own that holds lm-eval (`pip install "lm_eval[api]"`), whose requirements are
none of ours. FOLDER holds llm_foundry_eval/copa.jsonl and math_small/simple_arithmetic_withspaces.jsonl. Two tasks:
choosing an ending by its logprob (`local-completions`, prompts as token ids, echo), which is also done here without any
server, question by question; and writing a sum's result (`local-chat-completions`), also asked of the model alone.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m"
ASKING = "Compute. Answer with the number alone. "
NUMBER = r"(-?\d+)(?!.*\d)"  # the last one of an answer
TASKS = {
    "endings": """
task: endings
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{copa}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{query}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
""",
    "sums": """
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{sums}"}}}}
test_split: test
output_type: generate_until
doc_to_text: "{asking}{{{{context}}}}"
doc_to_target: "{{{{continuation.strip()}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 32, temperature: 0.0, do_sample: false}}
filter_list:
  - {{name: last, filter: [{{function: regex, regex_pattern: "{number}"}}, {{function: take_first}}]}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, ignore_punctuation: false}}
""",
}


def rows(path: Path, limit: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line][:limit]


def without_server(language: Any, copa: Path, sums: Path, limit: int) -> dict[str, float]:
    """The same two figures from the model alone."""
    import torch

    right = 0
    for row in rows(copa, limit):
        scores = []
        for choice in row["choices"]:
            ids, whole = (language.encode(text) for text in (row["query"], f"{row['query']} {choice}"))
            with torch.inference_mode():
                logprobs_TV = language(torch.tensor([whole]))[0].float().log_softmax(-1)
            places = range(len(ids), len(whole))
            scores.append(sum(float(logprobs_TV[place - 1, whole[place]]) for place in places))
        right += scores.index(max(scores)) == row["gold"]
    exact = 0
    for row in rows(sums, limit):
        message = [{"role": "user", "content": ASKING + row["context"]}]
        found = re.search(NUMBER, language.generate(message, max_tokens=32, stop=("\n",)).text)
        exact += found is not None and found[1] == row["continuation"].strip()
    return {"endings": right / len(rows(copa, limit)), "sums": exact / len(rows(sums, limit))}


def harness(python: str, url: str, folder: Path, tokenizer: Path, task: str, limit: int) -> float:
    """One run of lm-eval; its accuracy."""
    chat = task == "sums"
    path = "chat/completions" if chat else "completions"
    told = {"base_url": f"{url}/{path}", "model": MODEL, "num_concurrent": "8", "max_retries": "3"}
    told |= {"tokenized_requests": str(not chat), "tokenizer_backend": "None" if chat else "huggingface"}
    told |= {} if chat else {"tokenizer": str(tokenizer)}
    out = folder / f"{task}-out"
    command = [python, "-m", "lm_eval", "run", "--model", f"local-{'chat-' if chat else ''}completions"]
    command += ["--model_args", ",".join(f"{name}={value}" for name, value in told.items()), "--tasks", task]
    command += ["--include_path", str(folder), "--output_path", str(out), "--limit", str(limit)]
    command += ["--apply_chat_template"] if chat else []
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    environment |= {"OPENAI_API_KEY": "none"}
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    result = json.loads(max(out.rglob("results_*.json")).read_text(encoding="utf-8"))
    return next(
        value for name, value in result["results"][task].items() if name.split(",")[0] in ("acc", "exact_match")
    )


def report(found: dict[str, dict[str, float]], version: str, limit: int) -> str:
    from cutaway.cli.machine import look

    lines = [
        f"# lm-evaluation-harness against `cutaway serve`, {date.today()}",
        "",
        f"{look().processor}, {platform.system()}; Python {platform.python_version()}, lm_eval {version}, "
        f"cutaway {importlib.metadata.version('cutaway')}, {MODEL}, {limit} questions each.",
        "`python bench/evaluation_server.py --data FOLDER --python PYTHON`",
        "",
        "| task | how the harness asks | through the server | the model alone |",
        "|---|---|---|---|",
    ]
    ways = {"endings": "local-completions, ids, echo, logprobs", "sums": "local-chat-completions"}
    what = {"endings": "COPA endings, accuracy", "sums": "sums, exact match"}
    lines += [f"| {what[task]} | {ways[task]} | {a['server']:.3f} | {a['alone']:.3f} |" for task, a in found.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    copa = (arguments.data / "llm_foundry_eval" / "copa.jsonl").resolve()
    sums = (arguments.data / "math_small" / "simple_arithmetic_withspaces.jsonl").resolve()
    ask = "import importlib.metadata as m; print(m.version('lm_eval'))"
    version = subprocess.run(
        [arguments.python, "-c", ask], stdout=subprocess.PIPE, check=True, encoding="utf-8"
    ).stdout.strip()
    import cutaway

    language = cutaway.load(MODEL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        language.tokenizer.save(folder / "tokenizer")
        for task, text in TASKS.items():
            filled = text.format(copa=copa, sums=sums, asking=ASKING, number=NUMBER.replace("\\", "\\\\"))
            (folder / f"{task}.yaml").write_text(filled, encoding="utf-8")
        command = [sys.executable, "-m", "cutaway", "serve", MODEL, "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") as process:
            assert process.stderr is not None
            line = next(line for line in process.stderr if line.startswith("serving "))
            url = line.rsplit(" at ", 1)[1].strip()
            try:
                server = {
                    task: harness(arguments.python, url, folder, folder / "tokenizer", task, arguments.limit)
                    for task in TASKS
                }
            finally:
                process.terminate()
    alone = without_server(language, copa, sums, arguments.limit)
    found = {task: {"server": server[task], "alone": alone[task]} for task in TASKS}
    text = report(found, version, arguments.limit)
    if arguments.out:
        from cutaway.base.paths import atomic

        with atomic(arguments.out) as path:
            path.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
