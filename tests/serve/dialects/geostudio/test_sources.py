"""Sources of imagery as records that can be found again."""

from uuid import UUID


def test_a_source_has_an_id_of_its_own_that_stays(studio):
    """Their client looks for one among all of them by it."""
    found = studio.get("data-sources?limit=1000")["results"]
    ids = [one["id"] for one in found]
    assert len(set(ids)) == len(found) > 1
    assert [str(UUID(id_)) for id_ in ids] == ids
    named = studio.get(f"data-sources?collection={found[-1]['collection_name']}")["results"]
    assert found[-1] in named
