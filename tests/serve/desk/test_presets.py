"""Presets: own ones are changed, shared ones are seen, and administrators alone share."""

import pytest

from swathe.errors import ForbiddenError, LimitError, NotFoundError
from swathe.user import Role


def test_a_preset_from_its_making_to_its_end(hall):
    ada = hall.person()
    made = hall.desk.presets.add(ada, "its own kind", "mine", labels={"a": 1})
    assert (made.model, made.shared, made.labels) == (None, False, {"a": 1})
    changed = hall.desk.presets.change(ada, made.id, model="water-ndwi", name="ours", labels={"a": 2})
    assert (changed.model, changed.name, changed.labels) == ("water-ndwi", "ours", {"a": 2})
    other = hall.desk.presets.add(ada, "its own kind", "mine")
    assert [p.id for p in hall.desk.presets.listed(ada, "its own kind")] == [other.id, made.id]
    assert hall.desk.presets.listed(ada, "other") == []
    hall.desk.presets.drop(ada, made.id)
    with pytest.raises(NotFoundError):
        hall.desk.presets.get(ada, made.id)


def test_what_others_see(hall):
    ada, bob, admin = hall.person(), hall.person(), hall.person(Role.ADMIN)
    own = hall.desk.presets.add(ada, "seen", "own")
    shared = hall.desk.presets.add(admin, "seen", "for all", shared=True)
    assert [p.id for p in hall.desk.presets.listed(bob, "seen")] == [shared.id]
    with pytest.raises(NotFoundError):
        hall.desk.presets.get(bob, own.id)
    with pytest.raises(ForbiddenError):
        hall.desk.presets.change(bob, shared.id, name="x")
    with pytest.raises(ForbiddenError):
        hall.desk.presets.change(ada, own.id, shared=True)
    with pytest.raises(NotFoundError):
        hall.desk.presets.drop(bob, own.id)


def test_settings_have_a_bound(hall):
    with pytest.raises(LimitError):
        hall.desk.presets.add(hall.person(), "k", "n", labels={"x": "y" * (1 << 18)})
