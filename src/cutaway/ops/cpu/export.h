// EXPORT marks what Python calls: a plain C function, found by its name. All else stays inside the library.

#pragma once

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif
