"""The refinery beyond one machine: its steps that judge one document, as a block of a datatrove pipeline.

    from datatrove.executor import LocalPipelineExecutor        # or SlurmPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from gemmule.refine.datatrove_blocks import RefineryBlock

    LocalPipelineExecutor([JsonlReader("raw"), RefineryBlock("recipe.toml"), JsonlWriter("refined")], tasks=8).run()

Each document is judged as `gemmule refine` judges it. Two things take more than one document: lines that recur across
documents (boilerplate), and duplicates. These are left to datatrove's own stages, before or after this block; its
MinHash puts near-duplicates into clusters through third documents, and keeps one of each cluster.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gemmule import recipe as recipes
from gemmule.base.errors import RequestError
from gemmule.refine.refining import Refining
from gemmule.refine.sources import Document, resolve
from gemmule.refine.steps import Outside
from gemmule.refine.steps.step import DocumentStep, Verdict

try:
    from datatrove.data import Document as TheirDocument
    from datatrove.pipeline.base import PipelineStep
    from datatrove.pipeline.writers.disk_base import DiskWriter
except ImportError as error:
    raise RequestError(f"{error.name or 'datatrove'} is not installed: pip install datatrove orjson") from None


class RefineryBlock(PipelineStep):
    """The steps of a recipe's [refine] that judge one document at a time, in their order."""

    type = "🔻 - FILTER"
    name = "gemmule's refinery"

    def __init__(
        self,
        recipe: str | Path,
        only: Sequence[str] | None = None,
        exclusion_writer: DiskWriter | None = None,
        allow_code: bool = False,
    ) -> None:
        """`only` names some of the steps, for a pipeline that removes duplicates between two blocks.

        `exclusion_writer` gets the documents that are dropped, with the step and its reason in their metadata; personal
        data in them is masked as in the refinery's own samples. A recipe with `keep` names code, and is refused unless
        `allow_code`.

        Raises RequestError for a recipe without [refine], or without such steps in it.
        """
        super().__init__()
        self.exclusion_writer = exclusion_writer
        refining = _refining(Path(recipe), allow_code)
        self.steps, self.mask = document_steps(refining, only), refining.mask

    def run(self, data: Iterable[Any] | None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Documents of datatrove in, those that stay out: their text as it is refined, their metadata as it was."""
        with tempfile.TemporaryDirectory(prefix="gemmule-refine-") as folder:
            for step in self.steps:
                step.prepare(Path(folder), None)
            for number, document in enumerate(data or ()):
                self.stat_update("total")
                with self.track_time():
                    last, verdict = self._judge(document, number)
                if verdict.document is not None:
                    self.stat_update("forwarded")
                    document.text = verdict.document.text
                    if verdict.document.language:
                        document.metadata["language"] = verdict.document.language
                    yield document
                    continue
                self.stat_update("dropped", f"dropped_{last}")
                if self.exclusion_writer is not None:
                    document.text = self.mask(document.text, "")
                    document.metadata |= {"dropped_by": last, "reason": verdict.reason}
                    self.exclusion_writer.write(document, rank)
        if self.exclusion_writer is not None:
            self.exclusion_writer.close()

    def _judge(self, document: TheirDocument, number: int) -> tuple[str, Verdict]:
        """The verdict that ended it, and by which step."""
        verdict = Verdict(Document(document.text, str(document.metadata.get("file_path", document.id)), number))
        for step in self.steps:
            assert verdict.document is not None
            verdict = step.judge(verdict.document)
            if verdict.document is None:
                return step.name, verdict
        return "", verdict


def document_steps(refining: Refining, only: Sequence[str] | None = None) -> list[DocumentStep]:
    """Those that need no document but the one that they judge."""
    steps = [step for step in refining.steps() if isinstance(step, DocumentStep) and not step.learns]
    names = [step.name for step in steps]
    if missing := set(only or ()) - set(names):
        raise RequestError(
            f"no step that judges one document: {', '.join(sorted(missing))}; there are {', '.join(names)}"
        )
    return [step for step in steps if only is None or step.name in only]


def _refining(file: Path, allow_code: bool) -> Refining:
    recipe, base = recipes.parse(recipes.read(file), str(file)), file.absolute().parent
    how = recipe.refine
    if how is None:
        raise RequestError(f"{file}: has no section [refine]")
    if how.keep is not None and not allow_code:
        raise RequestError(f"{file}: refine.keep runs code of your own: RefineryBlock(..., allow_code=True)")
    sets = resolve(how.decontaminate, base)
    return Refining(how, Outside(base, recipe.data.field, decontaminate=sets))
