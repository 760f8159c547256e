"""The whole product against inputs that nobody wrote by hand: seeded, counted, larger on demand (`make fuzz`)."""
