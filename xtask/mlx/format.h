// mlx-c 0.7.0 uses std::format with "{}" alone, in one private header; g++ before 13 has no <format>.
#pragma once
#if __has_include(<format>)
#include <format>
#else
#include <sstream>
#include <string>
#include <string_view>
namespace std {
template <class... Args>
string format(string_view pattern, const Args&... args) {
  ostringstream out;
  auto put = [&](const auto& value) {
    auto hole = pattern.find("{}");
    out << pattern.substr(0, hole) << value;
    pattern = hole == string_view::npos ? string_view{} : pattern.substr(hole + 2);
  };
  (put(args), ...);
  out << pattern;
  return out.str();
}
} // namespace std
#endif
