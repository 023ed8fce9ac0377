"""Files of other programs: read, and written so that these read them."""

from quasistatic.interchange.rbms import RbmsFile as RbmsFile
from quasistatic.interchange.rbms import read_rbms as read_rbms
from quasistatic.interchange.rbms import write_rbms as write_rbms
