"""Annotation files and videos to batches."""

import os

# Before cv2 is imported anywhere: OpenCV and its FFmpeg would print their own complaints around
# the one message that counts
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
