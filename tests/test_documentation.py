import re
from pathlib import Path

from app.catalog.methods import METHODS
from app.catalog.tasks import TASKS
from app.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_lists_every_setting_with_its_description():
    for name, field in Settings.model_fields.items():
        row = next((line for line in README.splitlines() if line.startswith(f"| `TAILOR_{name.upper()}` |")), None)
        assert row is not None, f"TAILOR_{name.upper()} is not in the README's table"
        assert field.description in row


def test_the_readme_lists_no_setting_that_does_not_exist():
    known = {f"TAILOR_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"^\| `(TAILOR_\w+)`", README, re.MULTILINE)) == known


def test_every_file_the_readme_names_exists():
    named = set(re.findall(r"`((?:app|worker|migrations|examples|benchmarks|tests)/[\w./]*)`", README))
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_every_entry_of_the_catalogue_explains_itself():
    for task in TASKS.values():
        for variant in task.variants:
            assert variant.title
            assert len(variant.example) >= 8
            assert all(field.description for field in variant.fields)
            assert variant.selection_metric in variant.metrics
            assert set(variant.headline) <= set(variant.metrics)
    for model in [task.options for task in TASKS.values()] + [method.options for method in METHODS.values()]:
        assert model.__doc__
