"""One module a screen. A screen shows what stations say, and passes on what a person wants."""
