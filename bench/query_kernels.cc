#include <immintrin.h>

#include <bit>
#include <cstdint>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "bench/query_engine.h"
#include "bench/query_fleet.h"
#include "engine/model/check.h"

namespace muster {
namespace {

// Rows whose masks are made before the next block's.
constexpr size_t kBlockRows = 4096;
constexpr size_t kBlockWords = kBlockRows / 64;

// ----------------------------------------------------- code range to mask
//
// words[i] gets a bit for each of 64 codes: first <= code < first + count, that
// is code - first < count without sign.  Every array is whole blocks long.

template <typename Code>
void RangeScalar(const Code* codes, Code first, Code count, uint64_t* words) {
  for (size_t w = 0; w < kBlockWords; ++w) {
    uint64_t word = 0;
    for (size_t i = 0; i < 64; ++i) {
      const Code offset = static_cast<Code>(codes[w * 64 + i] - first);
      word |= uint64_t{offset < count} << i;
    }
    words[w] = word;
  }
}

template <typename Code>
__attribute__((target("avx2"))) void RangeAvx2(const Code* codes, Code first,
                                               Code count, uint64_t* words) {
  const Code last = static_cast<Code>(count - 1);
  for (size_t w = 0; w < kBlockWords; ++w) {
    uint64_t word = 0;
    for (size_t half = 0; half < 2; ++half) {
      const Code* const p = codes + w * 64 + half * 32;
      __m256i bytes;
      if constexpr (sizeof(Code) == 1) {
        const __m256i low = _mm256_set1_epi8(static_cast<char>(first));
        const __m256i high = _mm256_set1_epi8(static_cast<char>(last));
        const __m256i x = _mm256_sub_epi8(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), low);
        bytes = _mm256_cmpeq_epi8(_mm256_min_epu8(x, high), x);
      } else if constexpr (sizeof(Code) == 2) {
        const __m256i low = _mm256_set1_epi16(static_cast<int16_t>(first));
        const __m256i high = _mm256_set1_epi16(static_cast<int16_t>(last));
        const __m256i x = _mm256_sub_epi16(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), low);
        const __m256i y = _mm256_sub_epi16(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 16)), low);
        bytes = _mm256_permute4x64_epi64(
            _mm256_packs_epi16(
                _mm256_cmpeq_epi16(_mm256_min_epu16(x, high), x),
                _mm256_cmpeq_epi16(_mm256_min_epu16(y, high), y)),
            0xd8);
      } else {
        const __m256i low = _mm256_set1_epi32(static_cast<int32_t>(first));
        const __m256i high = _mm256_set1_epi32(static_cast<int32_t>(last));
        __m256i in[4];
        for (size_t k = 0; k < 4; ++k) {
          const __m256i x = _mm256_sub_epi32(
              _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8 * k)),
              low);
          in[k] = _mm256_cmpeq_epi32(_mm256_min_epu32(x, high), x);
        }
        // Packing works on halves of registers and leaves runs of four bytes
        // in the order 0 2 4 6 1 3 5 7.
        bytes = _mm256_permutevar8x32_epi32(
            _mm256_packs_epi16(_mm256_packs_epi32(in[0], in[1]),
                               _mm256_packs_epi32(in[2], in[3])),
            _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
      }
      word |= uint64_t{static_cast<uint32_t>(_mm256_movemask_epi8(bytes))}
              << (32 * half);
    }
    words[w] = word;
  }
}

template <typename Code>
__attribute__((target("avx512f,avx512bw"))) void RangeAvx512(const Code* codes,
                                                             Code first,
                                                             Code count,
                                                             uint64_t* words) {
  for (size_t w = 0; w < kBlockWords; ++w) {
    const Code* const p = codes + w * 64;
    uint64_t word = 0;
    if constexpr (sizeof(Code) == 1) {
      const __m512i x = _mm512_sub_epi8(
          _mm512_loadu_si512(p), _mm512_set1_epi8(static_cast<char>(first)));
      word =
          _mm512_cmplt_epu8_mask(x, _mm512_set1_epi8(static_cast<char>(count)));
    } else if constexpr (sizeof(Code) == 2) {
      const __m512i low = _mm512_set1_epi16(static_cast<int16_t>(first));
      const __m512i size = _mm512_set1_epi16(static_cast<int16_t>(count));
      for (size_t k = 0; k < 2; ++k) {
        const __m512i x = _mm512_sub_epi16(_mm512_loadu_si512(p + 32 * k), low);
        word |= uint64_t{_mm512_cmplt_epu16_mask(x, size)} << (32 * k);
      }
    } else {
      const __m512i low = _mm512_set1_epi32(static_cast<int32_t>(first));
      const __m512i size = _mm512_set1_epi32(static_cast<int32_t>(count));
      for (size_t k = 0; k < 4; ++k) {
        const __m512i x = _mm512_sub_epi32(_mm512_loadu_si512(p + 16 * k), low);
        word |= uint64_t{_mm512_cmplt_epu32_mask(x, size)} << (16 * k);
      }
    }
    words[w] = word;
  }
}

// -------------------------------------------------------------- mask to ids

uint32_t* IdsScalar(const uint64_t* words, uint32_t first, uint32_t* out) {
  for (size_t w = 0; w < kBlockWords; ++w, first += 64) {
    for (uint64_t word = words[w]; word != 0; word &= word - 1) {
      *out++ = first + static_cast<uint32_t>(std::countr_zero(word));
    }
  }
  return out;
}

// Writes up to 15 ids more than there are: the caller has room.
__attribute__((target("avx512f,popcnt"))) uint32_t* IdsAvx512(
    const uint64_t* words, uint32_t first, uint32_t* out) {
  const __m512i steps =
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (size_t w = 0; w < kBlockWords; ++w) {
    for (uint64_t word = words[w]; word != 0; word = 0) {
      for (uint32_t k = 0; k < 4; ++k) {
        const __mmask16 mask = static_cast<__mmask16>(word >> (16 * k));
        const __m512i ids = _mm512_add_epi32(
            steps, _mm512_set1_epi32(static_cast<int32_t>(
                       first + static_cast<uint32_t>(w) * 64 + 16 * k)));
        _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(mask, ids));
        out += __builtin_popcount(mask);
      }
    }
  }
  return out;
}

__attribute__((target("popcnt"))) int64_t Ones(const uint64_t* words) {
  int64_t count = 0;
  for (size_t w = 0; w < kBlockWords; ++w) {
    count += __builtin_popcountll(words[w]);
  }
  return count;
}

// What the processor has is looked up once.
struct Isa {
  bool avx2 = __builtin_cpu_supports("avx2") != 0;
  bool avx512 = __builtin_cpu_supports("avx512f") != 0 &&
                __builtin_cpu_supports("avx512bw") != 0;
};

// ---------------------------------------------------------------- columns

// Codes 0 (no value), 1, 2, ... in the order of the values.
template <typename Code>
struct Column {
  std::vector<Code> codes;
  std::map<std::string, Code, std::less<>> dictionary;

  // The value's code; one that no twin has if it does not occur.
  Code Of(absl::string_view value) const {
    const auto found = dictionary.find(std::string(value));
    return found == dictionary.end() ? static_cast<Code>(-1) : found->second;
  }
};

class Kernels : public QueryEngine {
 public:
  explicit Kernels(uint32_t twin_count)
      : twin_count_(twin_count),
        row_count_((twin_count + kBlockRows - 1) / kBlockRows * kBlockRows) {
    // Values first, then codes in their order.
    ForEachTwin(0, twin_count, [&](absl::string_view, const TwinFacts& f) {
      region_.dictionary.try_emplace(f.region);
      building_.dictionary.try_emplace(f.building);
      model_.dictionary.try_emplace(f.model);
      customer_.dictionary.try_emplace(f.customer);
      version_.dictionary.try_emplace(f.fw_version);
      connectivity_.dictionary.try_emplace(f.connectivity);
    });
    Number(&region_);
    Number(&building_);
    Number(&model_);
    Number(&customer_);
    Number(&version_);
    Number(&connectivity_);
    floor_.resize(row_count_);
    battery_.resize(row_count_);
    desired_fw_.resize(row_count_);
    last_error_.resize(row_count_);
    cal_ok_.resize(row_count_);
    temperature_.resize(row_count_);
    mem_free_.resize(row_count_);
    rows_.reserve(twin_count);
    ForEachTwin(0, twin_count, [&](absl::string_view, const TwinFacts& f) {
      const size_t row = f.device;
      rows_[absl::StrFormat("dev-%08d", f.device)] = f.device;
      region_.codes[row] = region_.Of(f.region);
      building_.codes[row] = building_.Of(f.building);
      model_.codes[row] = model_.Of(f.model);
      customer_.codes[row] = customer_.Of(f.customer);
      version_.codes[row] = version_.Of(f.fw_version);
      connectivity_.codes[row] = connectivity_.Of(f.connectivity);
      floor_[row] = static_cast<uint8_t>(f.floor + 1);
      battery_[row] = static_cast<uint16_t>(f.battery_tenths + 1);
      desired_fw_[row] = f.has_desired_fw ? 1 : 0;
      last_error_[row] = f.has_last_error ? 1 : 0;
      cal_ok_[row] = static_cast<uint8_t>(f.cal_ok + 1);
      temperature_[row] = static_cast<uint16_t>(f.temperature_tenths + 1);
      mem_free_[row] = f.mem_free + 1;
    });
    for (const uint32_t device : ListedDevices()) {
      listed_.push_back(absl::StrFormat("dev-%08d", device));
    }
    building_43_ = building_.Of("43");
    model_th_400_ = model_.Of("TH-400");
    customer_17_ = customer_.Of("cust-0017");
    version_103_ = version_.Of("1.0.3");
    lte_ = connectivity_.Of("lte");
    wifi_ = connectivity_.Of("wifi");
    emea_west_ = region_.Of("emea-west");
    // Where '2.1.' begins and ends among the versions.
    for (const auto& [version, code] : version_.dictionary) {
      if (version.compare(0, 4, "2.1.") != 0) continue;
      if (prefix_count_++ == 0) prefix_first_ = code;
    }
  }

  const char* name() const override { return "kernels"; }

  int64_t Count(int q) override {
    if (q < 2) return Look(q, nullptr);
    int64_t count = 0;
    for (size_t first = 0; first < row_count_; first += kBlockRows) {
      uint64_t words[kBlockWords];
      Match(q, first, words);
      count += Ones(words);
    }
    return count;
  }

  int64_t Enumerate(int q, uint32_t* ids) override {
    if (q < 2) return Look(q, ids);
    uint32_t* next = ids;
    for (size_t first = 0; first < row_count_; first += kBlockRows) {
      uint64_t words[kBlockWords];
      Match(q, first, words);
      const uint32_t row = static_cast<uint32_t>(first);
      next = isa_.avx512 ? IdsAvx512(words, row, next)
                         : IdsScalar(words, row, next);
    }
    return next - ids;
  }

  uint32_t DeviceOf(uint32_t id) const override { return id; }

 private:
  template <typename Code>
  void Number(Column<Code>* column) {
    Code next = 0;
    for (auto& [value, code] : column->dictionary) {
      code = value.empty() ? Code{0} : ++next;
    }
    column->codes.resize(row_count_);
  }

  int64_t Look(int q, uint32_t* ids) const {
    int64_t count = 0;
    for (const std::string& id : q == 0 ? point_ : listed_) {
      const auto found = rows_.find(id);
      if (found == rows_.end()) continue;
      if (ids != nullptr) ids[count] = found->second;
      ++count;
    }
    return count;
  }

  template <typename Code>
  void Range(const std::vector<Code>& codes, size_t first_row,
             std::type_identity_t<Code> first, std::type_identity_t<Code> count,
             uint64_t* words) const {
    const Code* const p = codes.data() + first_row;
    if (isa_.avx512) {
      RangeAvx512(p, first, count, words);
    } else if (isa_.avx2) {
      RangeAvx2(p, first, count, words);
    } else {
      RangeScalar(p, first, count, words);
    }
  }

  static bool Any(const uint64_t* words) {
    uint64_t any = 0;
    for (size_t w = 0; w < kBlockWords; ++w) any |= words[w];
    return any != 0;
  }

  void Match(int q, size_t row, uint64_t* words) const {
    uint64_t more[kBlockWords];
    uint64_t most[kBlockWords];
    switch (q) {
      case 2:
        return Range(building_.codes, row, building_43_, 1, words);
      case 3:
        return Range(connectivity_.codes, row, lte_, 1, words);
      case 4:
        return Range(battery_, row, 1, 200, words);
      case 5:
        Range(building_.codes, row, building_43_, 1, words);
        if (!Any(words)) return;
        Range(battery_, row, 1, 200, more);
        Range(desired_fw_, row, 0, 1, most);
        for (size_t w = 0; w < kBlockWords; ++w) words[w] &= more[w] & most[w];
        return;
      case 6:
        Range(model_.codes, row, model_th_400_, 1, words);
        Range(customer_.codes, row, customer_17_, 1, more);
        Range(version_.codes, row, version_103_, 1, most);
        for (size_t w = 0; w < kBlockWords; ++w) words[w] |= more[w] | most[w];
        return;
      case 7:
        Range(connectivity_.codes, row, 1, 255, words);
        Range(connectivity_.codes, row, lte_, 1, more);
        Range(connectivity_.codes, row, wifi_, 1, most);
        for (size_t w = 0; w < kBlockWords; ++w) {
          words[w] &= ~(more[w] | most[w]);
        }
        return;
      case 8:
        return Range(last_error_, row, 1, 1, words);
      case 9:
        return Range(version_.codes, row, prefix_first_, prefix_count_, words);
      case 10:
        Range(region_.codes, row, emea_west_, 1, words);
        Range(floor_, row, 8, 1, more);
        Range(cal_ok_, row, 1, 1, most);
        for (size_t w = 0; w < kBlockWords; ++w) words[w] &= more[w] & most[w];
        return;
      case 11:
        Range(temperature_, row, 301, 0xffff - 301, words);
        if (!Any(words)) return;
        Range(mem_free_, row, 1, 20'000, more);
        for (size_t w = 0; w < kBlockWords; ++w) words[w] &= more[w];
        return;
      default:
        break;
    }
    for (size_t w = 0; w < kBlockWords; ++w) {
      const size_t first = row + w * 64;
      words[w] = first + 64 <= twin_count_ ? ~uint64_t{0}
                 : first >= twin_count_
                     ? 0
                     : (uint64_t{1} << (twin_count_ - first)) - 1;
    }
  }

  const Isa isa_;
  const size_t twin_count_;
  const size_t row_count_;
  Column<uint8_t> region_;
  Column<uint16_t> building_;
  Column<uint8_t> model_;
  Column<uint16_t> customer_;
  Column<uint8_t> version_;
  Column<uint8_t> connectivity_;
  std::vector<uint8_t> floor_;
  std::vector<uint16_t> battery_;
  std::vector<uint8_t> desired_fw_;
  std::vector<uint8_t> last_error_;
  std::vector<uint8_t> cal_ok_;
  std::vector<uint16_t> temperature_;
  std::vector<uint32_t> mem_free_;
  absl::flat_hash_map<std::string, uint32_t> rows_;
  const std::vector<std::string> point_ = {"dev-00424242"};
  std::vector<std::string> listed_;
  uint16_t building_43_ = 0;
  uint8_t model_th_400_ = 0;
  uint16_t customer_17_ = 0;
  uint8_t version_103_ = 0;
  uint8_t lte_ = 0;
  uint8_t wifi_ = 0;
  uint8_t emea_west_ = 0;
  uint8_t prefix_first_ = 0;
  uint8_t prefix_count_ = 0;
};

}  // namespace

std::unique_ptr<QueryEngine> MakeKernels(uint32_t twin_count) {
  return std::make_unique<Kernels>(twin_count);
}

}  // namespace muster
