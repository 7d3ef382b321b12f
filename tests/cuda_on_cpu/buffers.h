// Named arrays in a file, and in memory whose next page faults: a kernel that reads past an array dies.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>

struct Buffer {
  char* data = nullptr;
  int64_t bytes = 0;

  Buffer() = default;
  explicit Buffer(int64_t bytes) : bytes(bytes) {
    constexpr int64_t page = 4096;
    const int64_t room = (bytes + page - 1) / page * page;
    void* memory = mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char* start = static_cast<char*>(memory);
    if (memory == MAP_FAILED || mprotect(start + room, page, PROT_NONE) != 0) throw std::runtime_error("no memory");
    std::memset(start, 0xff, room);
    data = start + (room - (bytes + 15) / 16 * 16);  // kernels are promised 16-byte alignment
  }
};

// A file is: per array, a line "name bytes", then the bytes.
struct Buffers : std::map<std::string, Buffer> {
  explicit Buffers(const char* path) {
    FILE* file = std::fopen(path, "rb");
    if (file == nullptr) throw std::runtime_error("cannot read the inputs");
    char name[64];
    long bytes;
    while (std::fscanf(file, "%63s %ld", name, &bytes) == 2) {
      std::fgetc(file);
      Buffer buffer(bytes);
      if (std::fread(buffer.data, 1, bytes, file) != static_cast<size_t>(bytes)) throw std::runtime_error("short file");
      (*this)[name] = buffer;
    }
    std::fclose(file);
  }

  // Null if there is no such array.
  template <typename scalar> scalar* get(const std::string& name) const {
    const auto found = find(name);
    return found == end() ? nullptr : reinterpret_cast<scalar*>(found->second.data);
  }

  int64_t number(const std::string& name) const { return *get<int64_t>(name); }

  // An array of NaN, to be written back.
  template <typename scalar> scalar* output(const std::string& name, int64_t size) {
    (*this)["out." + name] = Buffer(size * sizeof(scalar));
    return get<scalar>("out." + name);
  }

  void write(const char* path) const {
    FILE* file = std::fopen(path, "wb");
    for (const auto& [name, buffer] : *this) {
      if (name.rfind("out.", 0) != 0) continue;
      std::fprintf(file, "%s %ld\n", name.c_str() + 4, static_cast<long>(buffer.bytes));
      std::fwrite(buffer.data, 1, buffer.bytes, file);
    }
    std::fclose(file);
  }
};
