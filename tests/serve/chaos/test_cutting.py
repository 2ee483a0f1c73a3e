"""The blow itself: a database that is cut off answers nobody, and everybody afterwards."""

import pytest

from serve.store import users
from serve.store.store import Store
from swathe.errors import StoreError
from tests.serve.chaos.cutting import cut


@pytest.mark.slow
def test_neither_readers_nor_writers_reach_a_database_that_is_cut_off(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    with store.begin() as c:
        users.add(c, "one@example.org")
    with cut(store.path):
        for way in (store.read, store.begin):
            with pytest.raises(StoreError), way() as c:
                users.count(c)
        with pytest.raises(StoreError):
            Store.open(store.url)
    with store.begin() as c:
        users.add(c, "two@example.org")
        assert users.count(c) == 2
    store.close()
