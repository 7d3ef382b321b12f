r"""Pages for people: molecules judged, counted and drawn, in one file that needs no network."""
from torch_geometric_inertial.report.animation import write_animation
from torch_geometric_inertial.report.notebook import view
from torch_geometric_inertial.report.page import write_report

__all__ = ['view', 'write_animation', 'write_report']
