"""What all tests share."""

from hypothesis import settings

# Examples are judged by what they find, not by how busy the machine is.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
