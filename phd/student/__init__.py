"""The student: trunk, neck and the teacher's heads in one container."""

from __future__ import annotations

from phd.student.backbones import PAPER_TRUNKS, build_trunk
from phd.student.config import StudentConfig
from phd.student.container import Student
from phd.student.inherit import Inheritance, inherit
from phd.student.text import TextStudent

__all__ = ["PAPER_TRUNKS", "Inheritance", "Student", "StudentConfig", "TextStudent", "build_trunk", "inherit"]
