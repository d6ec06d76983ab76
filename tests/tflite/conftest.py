import dense_model
import pytest


@pytest.fixture
def dense_object():
    return dense_model.build()


@pytest.fixture
def dense(dense_object):
    return dense_model.serialize(dense_object)
