"""The filter for clips that earlier ones hold, whatever codec, gain or cut: landmarks of the spectrum, compared."""
