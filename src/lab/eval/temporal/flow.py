"""Optical flow between the frames of a film, by OpenCV's DIS.

Arguments: WIDTH HEIGHT. stdin: grey frames of WIDTH x HEIGHT bytes. stdout: a line with OpenCV's version, then for each
frame after the first the flow from the frame before to it, and the flow back: float32 in the machine's byte order,
HEIGHT x WIDTH x (dx, dy) in pixels. One thread and no OpenCL, so the same frames give the same bytes.
"""

import sys

import cv2
import numpy as np


def main():
    width, height = map(int, sys.argv[1:3])
    cv2.setNumThreads(1)
    cv2.ocl.setUseOpenCL(False)
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    out = sys.stdout.buffer
    out.write(f"{cv2.__version__}\n".encode())
    out.flush()
    before = None
    while len(data := sys.stdin.buffer.read(width * height)) == width * height:
        frame = np.frombuffer(data, np.uint8).reshape(height, width)
        if before is not None:
            for one, other in ((before, frame), (frame, before)):
                out.write(np.ascontiguousarray(dis.calc(one, other, None), np.float32).tobytes())
            out.flush()
        before = frame


main()
