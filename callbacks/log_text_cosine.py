"""Log how near a text encoder's tokens are to the teacher's."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity
from torchmetrics import MeanMetric, Metric

from callbacks.metric_logger import MetricLogger
from phd.contract import Contract
from phd.outputs import StepOutput
from phd.student.notices import notice


class LogTextCosine(MetricLogger):
    """`val/text_cosine`: the cosine of a token with the teacher's, mean over all tokens that are no padding.

    Beside it `val/text_cut`: the share of the phrases that were longer than the context and lost their end, which is
    said once. Nothing is logged by stages without phrases.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said = False

    def build(self, contract: Contract) -> dict[str, Metric]:
        """Two means."""
        return {"text_cosine": MeanMetric(), "text_cut": MeanMetric()}

    def update(self, output: StepOutput, contract: Contract) -> None:
        """Add the tokens of one batch."""
        if output.text is not None:
            text = output.text
            cosine = cosine_similarity(text.student.float(), text.teacher.float(), dim=-1)
            self.metrics["text_cosine"].update(cosine[text.mask])
            self.metrics["text_cut"].update(text.cut / len(text.mask), len(text.mask))

    def summarise(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """As it is, with a word about phrases that were cut."""
        cut = values.get("text_cut")
        if cut is not None and cut > 0 and not self._said:
            self._said = True
            share = f"{float(cut):.1%} of the phrases for validation are longer than the text encoder reads"
            notice(f"{share} and were cut; model.text_context takes 16 or 32")
        return values
