"""Frozen teacher models for images, videos, audio, skeletons or classification, named by id or path."""

from tubelets.models.teachers.frozen import CachedTeacher, FrozenModel, Teacher
from tubelets.models.teachers.teacher import Student, TeacherSpec, attach_teacher, load_teacher

__all__ = ["CachedTeacher", "FrozenModel", "Student", "Teacher", "TeacherSpec", "attach_teacher", "load_teacher"]
