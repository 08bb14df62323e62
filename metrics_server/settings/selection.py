"""Which series an entry of the configuration file is for."""

from __future__ import annotations

import msgspec

from metrics_server.series.series import Labels
from metrics_server.settings.field_types import Text


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The labels of some series; a part left out matches any."""

    namespace: Text = ""
    deployment: Text = ""
    predictor: Text = ""
    model: Text = ""

    def matches(self, labels: Labels) -> bool:
        """Tells whether series with these labels are among them: each part is left out or the same."""
        wanted = (self.namespace, self.deployment, self.predictor, self.model)
        return all(want in ("", got) for want, got in zip(wanted, labels, strict=True))
