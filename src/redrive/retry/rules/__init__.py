"""What failures of well-known libraries mean: one table per family, none of them imported.

A table names classes as `package.Class`: the first part of the module's name and the class's own
name, so that a library may move its classes about inside. `classify.py` asks the readers in order.
"""
