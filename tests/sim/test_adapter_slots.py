"""Adapter slots: who may start, what is loaded, what makes room."""

from stellwerk.sim.adapter_slots import AdapterSlots


def test_the_least_recently_used_adapter_that_nobody_runs_makes_room() -> None:
    slots = AdapterSlots(2)
    assert [slots.hold(name) for name in ("a", "b", "a")] == [True, True, False]
    assert not slots.has_room_for("c")
    assert slots.has_room_for("a")
    assert slots.has_room_for("")
    slots.drop("b")
    assert slots.has_room_for("c")
    assert slots.hold("c")
    assert slots.resident == ("a", "c")
    assert dict(slots.running) == {"a": 2, "c": 1}


def test_an_adapter_in_use_cannot_be_unloaded() -> None:
    slots = AdapterSlots(1)
    slots.hold("a")
    slots.unload("a")
    assert slots.resident == ("a",)
    slots.drop("a")
    slots.unload("a")
    assert not slots.resident
