"""Makes small encoders with their classifier, from labelled genes: how `mini` is made."""
