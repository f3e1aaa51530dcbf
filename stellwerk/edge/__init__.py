"""Everything with an await, a socket, a clock or a subprocess."""
