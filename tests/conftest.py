"""What all tests share: no test is judged by how fast the machine is."""

from hypothesis import settings

settings.register_profile("posthouse", deadline=None)
settings.load_profile("posthouse")
