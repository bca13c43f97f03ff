"""What setup.cfg cannot say: CVMASK_OPENCV names the wheel of OpenCV to depend on, as one without windows."""

import os

from setuptools import setup

WHEELS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
wheel = os.environ.get("CVMASK_OPENCV", WHEELS[0])
if wheel not in WHEELS:
    raise SystemExit(f"CVMASK_OPENCV needs one of {', '.join(WHEELS)}, got {wheel!r}")

setup(install_requires=["numpy>=1.21", f"{wheel}>=4.8,<5.1"])
