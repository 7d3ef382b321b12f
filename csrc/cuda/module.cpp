// The Python module whose import registers the CUDA kernels of the operators that _C declares.
#include <Python.h>

PyMODINIT_FUNC PyInit__CUDA() {
  static PyModuleDef module = {
      PyModuleDef_HEAD_INIT, "_CUDA", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
