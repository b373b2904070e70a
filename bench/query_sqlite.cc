#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "bench/query_engine.h"
#include "bench/query_fleet.h"
#include "engine/model/check.h"
#include "sqlite3.h"

namespace muster {
namespace {

std::string IdList() {
  std::string list;
  for (const uint32_t device : ListedDevices()) {
    absl::StrAppendFormat(&list, "%s'dev-%08d'", list.empty() ? "" : ",",
                          device);
  }
  return list;
}

// What follows WHERE, with a column or an expression for each $name$.
// last_error and fw_version are asked for as ranges: SQLite uses an index for
// those whatever it was built with.
std::vector<std::string> Conditions(bool columns) {
  struct Name {
    const char* column;
    const char* path;
  };
  const auto of = [columns](Name name) {
    return columns ? std::string(name.column)
                   : absl::StrCat("json_extract(doc,'$.", name.path, "')");
  };
  const auto type_of = [columns](Name name) {
    return columns ? std::string(name.column)
                   : absl::StrCat("json_type(doc,'$.", name.path, "')");
  };
  const std::string id = of({"device_id", "deviceId"});
  const std::string region = of({"region", "tags.location.region"});
  const std::string building = of({"building", "tags.location.building"});
  const std::string floor = of({"floor", "tags.location.floor"});
  const std::string model = of({"model", "tags.model"});
  const std::string customer = of({"customer", "tags.customer"});
  const std::string desired_fw =
      type_of({"desired_fw", "properties.desired.fw"});
  const std::string version =
      of({"fw_version", "properties.reported.fw.version"});
  const std::string battery = of({"battery", "properties.reported.battery"});
  const std::string connectivity =
      of({"connectivity", "properties.reported.connectivity.type"});
  const std::string last_error =
      type_of({"last_error", "properties.reported.lastError"});
  const std::string ok =
      of({"cal_ok", "properties.reported.sensors.env.cal.ok"});
  const std::string temperature =
      of({"temperature", "properties.reported.temperature"});
  const std::string mem_free = of({"mem_free", "properties.reported.memFree"});
  return {
      id + " = 'dev-00424242'",
      id + " IN (" + IdList() + ")",
      building + " = '43'",
      connectivity + " = 'lte'",
      battery + " < 20",
      building + " = '43' AND " + battery + " < 20 AND " + desired_fw +
          " IS NULL",
      model + " = 'TH-400' OR " + customer + " = 'cust-0017' OR " + version +
          " = '1.0.3'",
      "NOT (" + connectivity + " IN ('lte', 'wifi'))",
      last_error + " > ''",
      version + " >= '2.1.' AND " + version + " < '2.1/'",
      region + " = 'emea-west' AND " + floor + " = 7 AND " + ok + " = 0",
      temperature + " >= 30 AND " + mem_free + " < 20000",
      "1",
      // What the indexes are on: ten single ones and one of two.
      id,
      building,
      connectivity,
      battery,
      desired_fw,
      model,
      customer,
      version,
      last_error,
      region,
      region + ", " + floor,
  };
}

class Sqlite : public QueryEngine {
 public:
  Sqlite(bool columns, uint32_t twin_count) : columns_(columns) {
    MUSTER_CHECK(sqlite3_open(":memory:", &db_) == SQLITE_OK);
    Run("PRAGMA cache_size = -4000000");
    Run("PRAGMA temp_store = MEMORY");
    Run("BEGIN");
    if (columns) {
      LoadColumns(twin_count);
    } else {
      LoadText(twin_count);
    }
    const std::vector<std::string> texts = Conditions(columns);
    for (size_t i = kQueryCount; i < texts.size(); ++i) {
      Run(absl::StrCat("CREATE INDEX index_", i, " ON twins(", texts[i], ")"));
    }
    Run("COMMIT");
    Run("ANALYZE");
    for (size_t q = 0; q < kQueryCount; ++q) {
      counts_.push_back(Prepared(
          absl::StrCat("SELECT COUNT(*) FROM twins WHERE ", texts[q])));
      rows_.push_back(
          Prepared(absl::StrCat("SELECT rowid FROM twins WHERE ", texts[q])));
    }
  }

  ~Sqlite() override {
    for (sqlite3_stmt* statement : counts_) sqlite3_finalize(statement);
    for (sqlite3_stmt* statement : rows_) sqlite3_finalize(statement);
    sqlite3_close(db_);
  }

  const char* name() const override { return columns_ ? "columns" : "json"; }

  int64_t Count(int q) override {
    sqlite3_stmt* const statement = counts_[static_cast<size_t>(q)];
    MUSTER_CHECK(sqlite3_step(statement) == SQLITE_ROW);
    const int64_t count = sqlite3_column_int64(statement, 0);
    sqlite3_reset(statement);
    return count;
  }

  int64_t Enumerate(int q, uint32_t* ids) override {
    sqlite3_stmt* const statement = rows_[static_cast<size_t>(q)];
    uint32_t* next = ids;
    while (sqlite3_step(statement) == SQLITE_ROW) {
      *next++ = static_cast<uint32_t>(sqlite3_column_int64(statement, 0));
    }
    sqlite3_reset(statement);
    return next - ids;
  }

  uint32_t DeviceOf(uint32_t id) const override { return id - 1; }

 private:
  void Run(const std::string& sql) {
    MUSTER_CHECK(sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr) ==
                 SQLITE_OK);
  }

  sqlite3_stmt* Prepared(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    MUSTER_CHECK(sqlite3_prepare_v2(db_, sql.c_str(), -1, &statement,
                                    nullptr) == SQLITE_OK);
    return statement;
  }

  static void Bind(sqlite3_stmt* statement, int at, absl::string_view text) {
    if (text.empty()) {
      sqlite3_bind_null(statement, at);
    } else {
      sqlite3_bind_text(statement, at, text.data(),
                        static_cast<int>(text.size()), SQLITE_TRANSIENT);
    }
  }

  void LoadColumns(uint32_t twin_count) {
    Run("CREATE TABLE twins(device_id TEXT, region TEXT, building TEXT, "
        "floor INTEGER, model TEXT, customer TEXT, desired_fw TEXT, "
        "fw_version TEXT, battery REAL, connectivity TEXT, last_error TEXT, "
        "cal_ok INTEGER, temperature REAL, mem_free INTEGER)");
    sqlite3_stmt* const insert = Prepared(
        "INSERT INTO twins VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    ForEachTwin(0, twin_count, [&](absl::string_view, const TwinFacts& f) {
      Bind(insert, 1, absl::StrFormat("dev-%08d", f.device));
      Bind(insert, 2, f.region);
      Bind(insert, 3, f.building);
      sqlite3_bind_int64(insert, 4, f.floor);
      Bind(insert, 5, f.model);
      Bind(insert, 6, f.customer);
      Bind(insert, 7, f.has_desired_fw ? "object" : "");
      Bind(insert, 8, f.fw_version);
      if (f.battery_tenths < 0) {
        sqlite3_bind_null(insert, 9);
      } else {
        sqlite3_bind_double(insert, 9, f.battery_tenths / 10.0);
      }
      Bind(insert, 10, f.connectivity);
      Bind(insert, 11, f.has_last_error ? "object" : "");
      if (f.cal_ok < 0) {
        sqlite3_bind_null(insert, 12);
      } else {
        sqlite3_bind_int(insert, 12, f.cal_ok);
      }
      sqlite3_bind_double(insert, 13, f.temperature_tenths / 10.0);
      sqlite3_bind_int64(insert, 14, f.mem_free);
      MUSTER_CHECK(sqlite3_step(insert) == SQLITE_DONE);
      sqlite3_reset(insert);
    });
    sqlite3_finalize(insert);
  }

  void LoadText(uint32_t twin_count) {
    Run("CREATE TABLE twins(doc TEXT)");
    sqlite3_stmt* const insert = Prepared("INSERT INTO twins VALUES (?)");
    ForEachTwin(0, twin_count, [&](absl::string_view json, const TwinFacts&) {
      Bind(insert, 1, json);
      MUSTER_CHECK(sqlite3_step(insert) == SQLITE_DONE);
      sqlite3_reset(insert);
    });
    sqlite3_finalize(insert);
  }

  const bool columns_;
  sqlite3* db_ = nullptr;
  std::vector<sqlite3_stmt*> counts_;
  std::vector<sqlite3_stmt*> rows_;
};

}  // namespace

std::unique_ptr<QueryEngine> MakeSqliteColumns(uint32_t twin_count) {
  return std::make_unique<Sqlite>(/*columns=*/true, twin_count);
}

std::unique_ptr<QueryEngine> MakeSqliteJson(uint32_t twin_count) {
  return std::make_unique<Sqlite>(/*columns=*/false, twin_count);
}

}  // namespace muster
