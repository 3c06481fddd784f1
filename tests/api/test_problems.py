"""Validation errors in words, for schemas that the catalogue does not hold yet."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.api.problems import refusal


class Cat(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["cat"]
    lives: int = Field(default=9, ge=1, lt=10)


class Dog(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["dog"]
    names: list[Annotated[str, Field(min_length=1, max_length=5)]] = []


class Home(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="type")]
    rooms: dict[str, float] | None = None
    warm: bool = True


@pytest.mark.parametrize(
    ("home", "param", "message"),
    [
        ({"pet": {"type": "cow"}}, "pet.type", 'pet.type is "cow"; give "cat" or "dog".'),
        ({"pet": {}}, "pet.type", 'pet.type is missing; give "cat" or "dog".'),
        (
            {"pet": {"type": "cat", "lives": 10}},
            "pet.lives",
            "pet.lives is 10; give an integer of at least 1 and below 10.",
        ),
        ({"pet": {"type": "cat", "live": 1}}, "pet.live", "Unknown field 'live' in pet; did you mean 'lives'?"),
        (
            {"pet": {"type": "dog", "names": ["Rex", ""]}},
            "pet.names[1]",
            'pet.names[1] is ""; give a string of 1 to 5 characters.',
        ),
        ({"pet": {"type": "dog"}, "rooms": 3}, "rooms", "rooms is 3; give an object of numbers."),
        ({"pet": {"type": "dog"}, "rooms": {"a": "b"}}, "rooms.a", 'rooms.a is "b"; give a number.'),
        ({"pet": {"type": "dog"}, "warm": "very"}, "warm", 'warm is "very"; give true or false.'),
        ({"pet": {"type": "dog"}, "rooms": "x" * 99}, "rooms", f'rooms is "{"x" * 58}…; give an object of numbers.'),
    ],
)
def test_a_problem_names_the_field_the_value_and_what_may_stand_there(
    home: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        Home.model_validate(home)
    schema = Home.model_json_schema()

    error = refusal(caught.value.errors(), home, schema, schema)

    assert (error.status, error.param, error.message) == (400, param, message)
