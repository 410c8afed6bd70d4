// segment MODEL PICTURE.ppm LABELS.bin, around the function that docs/clients.md shows.
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "segment.hpp"

int main(int count, char** arguments) try {
  if (count != 4) return 2;
  std::ifstream file(arguments[2], std::ios::binary);
  std::string magic;
  std::size_t width = 0, height = 0, most = 0;
  file >> magic >> width >> height >> most;
  file.get();
  std::vector<std::uint8_t> rgb{std::istreambuf_iterator<char>(file), {}};
#ifdef ORT_API_VERSION
  Ort::Env env;
  Ort::Session model(env, arguments[1], Ort::SessionOptions{});
#else
  ov::Core core;
  auto model = core.compile_model(arguments[1], "CPU", ov::hint::inference_precision(ov::element::f32));
#endif
  const auto labels = segment(model, rgb, height, width);
  std::ofstream out(arguments[3], std::ios::binary);
  out.write(reinterpret_cast<const char*>(labels.data()), labels.size());
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
