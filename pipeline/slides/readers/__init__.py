"""What turns a file into pixels, one module a way of reading; `pipeline.slides.slide` chooses."""
