"""Adaptive compression in the trainers of other libraries; each file needs the library that it is named for."""
