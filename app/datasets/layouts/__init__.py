"""Shapes of records that are not one column a field. A new one is one module and one entry here."""

from app.datasets.layouts.label_studio import LABEL_STUDIO
from app.datasets.layouts.languages import LANGUAGE_RECORDS
from app.datasets.layouts.layout import Layout
from app.datasets.layouts.spans import SPANS

LAYOUTS: tuple[Layout, ...] = (LABEL_STUDIO, SPANS, LANGUAGE_RECORDS)
