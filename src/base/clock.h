/* Time: nanoseconds since the epoch (wall) or since boot (mono). Units are in the names. */
#ifndef KNARR_BASE_CLOCK_H
#define KNARR_BASE_CLOCK_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

int64_t clock_wall_ns(void);
int64_t clock_mono_ns(void); /* CLOCK_MONOTONIC */

/* RFC 3339 with nanoseconds in UTC: "2026-11-23T16:14:05.123456789Z", as CRI logs want it. */
enum { CLOCK_TEXT_MAX = 64 };
void clock_format_rfc3339(int64_t wall_ns, char out[CLOCK_TEXT_MAX]);
/* RFC 3339 with any fraction and offset. ERR_INVALID names the text. */
int clock_parse_rfc3339(struct str s, int64_t *wall_ns, struct err *e);

/* "1.5s", "300ms", "2m", "1h30m": Go's duration syntax, as users write it. */
int clock_parse_duration(struct str s, int64_t *ns, struct err *e);

#endif
