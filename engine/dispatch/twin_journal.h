// TwinJournal: what a write to a twin sets off.
//
// Called with the shard's lock held, for every write in order: puts its record
// into the partition's buffer, lines up the device's notification behind it,
// and tells the dispatcher of devices that came back or went for good.
#ifndef ENGINE_DISPATCH_TWIN_JOURNAL_H_
#define ENGINE_DISPATCH_TWIN_JOURNAL_H_

#include "engine/dispatch/dispatcher.h"
#include "engine/dispatch/notifier.h"
#include "engine/journal/group_commit.h"
#include "engine/twin/twin_index.h"

namespace muster {

class TwinJournal : public TwinObserver {
 public:
  // `*commit` must outlive this object.
  explicit TwinJournal(GroupCommit* commit) : commit_(commit) {}

  // Before the first write, since the index comes before the dispatcher.
  // They must outlive the last write.
  void Connect(TwinIndex* index, Dispatcher* dispatcher, Notifier* notifier) {
    index_ = index;
    dispatcher_ = dispatcher;
    notifier_ = notifier;
  }

  void OnTwinChange(const TwinChange& change) override;

 private:
  GroupCommit* const commit_;
  TwinIndex* index_ = nullptr;
  Dispatcher* dispatcher_ = nullptr;
  Notifier* notifier_ = nullptr;
};

}  // namespace muster

#endif  // ENGINE_DISPATCH_TWIN_JOURNAL_H_
