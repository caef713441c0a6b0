"""`unept-bench evaluate`: score checkpoints."""

from __future__ import annotations

from bench.evaluation.options import EvaluationRequest, check_evaluation
from experiments.commands.console import (
    DONE,
    INTERRUPTED,
    NAME,
    Invocation,
    check_checkpoints,
    print_lines,
    print_progress,
)
from experiments.commands.options import Verb
from unept.data import open_data

LONGEST_NAME = 100  # characters of a report's name


def evaluate(options: EvaluationRequest, call: Invocation) -> int:
    """Score checkpoints on a data set by the paper's protocol: six scales, mirrored too, sliding windows.

    Interrupted, the same command continues; under torchrun, or begun on several machines that share --out, the
    processes divide the pictures among them. Several checkpoints are compared by a bootstrap over the pictures.
    """
    check_evaluation(options, open_data(options.data, options.split))
    check_checkpoints(options.checkpoints)

    from bench import environment
    from bench.evaluation import multi_process
    from reports import write_files
    from reports.pages import evaluation as pages
    from unept.utils.file_locks import file_lock

    try:
        scored = multi_process.evaluate_checkpoints(options, print_progress)
    except KeyboardInterrupt:
        print_progress(f"{NAME}: stopped; finished pictures are kept, the same command continues")
        return INTERRUPTED
    if not environment.is_main_process():
        return DONE
    records, pairs = [checkpoint.record for checkpoint in scored], multi_process.paired_comparisons(scored)
    page = pages.evaluation_markdown(records, pairs, call.command)
    print_lines(pages.evaluation_lines(records, pairs))
    name = "-".join(record["name"] for record in records)
    with file_lock(options.out / "report.lock"):  # another machine's first process may write the same page
        written, *_ = write_files(options.out, {f"{name[:LONGEST_NAME]}-{options.split}.md": page.encode()})
    folders = ", ".join(record["folder"] for record in records)
    print(f"report: {written}; scores and the counts of every picture: {folders}")
    return DONE


VERB = Verb(
    name="evaluate",
    run=evaluate,
    options=EvaluationRequest,
    group="Model",
    summary="Score checkpoints on a data set",
    example="evaluate model.safetensors --data ade20k:PATH",
    user_code=lambda options: "--own-modules" if options.own_modules else "",
)
