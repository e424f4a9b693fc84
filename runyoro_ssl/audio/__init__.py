"""Sound: decoding a recording, measuring it, finding speech in it, and synthesising some."""
