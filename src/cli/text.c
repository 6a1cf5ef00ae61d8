#include "cli/cli.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct table {
	struct arena *a;
	size_t columns, rows, room;
	const char **cell; /* rows × columns */
};

struct table *table_new(struct arena *a, size_t columns)
{
	struct table *t = arena_new0(a, struct table);

	t->a = a;
	t->columns = columns;
	return t;
}

void table_row(struct table *t, ...)
{
	va_list ap;

	if (t->rows == t->room) {
		const char **more = arena_newn0(t->a, const char *, (t->room * 2 + 16) * t->columns);

		if (t->rows)
			memcpy(more, t->cell, t->rows * t->columns * sizeof(*more));
		t->cell = more;
		t->room = t->room * 2 + 16;
	}
	va_start(ap, t);
	for (size_t i = 0; i < t->columns; i++)
		t->cell[t->rows * t->columns + i] = va_arg(ap, const char *);
	va_end(ap);
	t->rows++;
}

/* Characters, not bytes: a name may be in any script. */
static size_t width_of(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

void table_print(const struct table *t)
{
	size_t columns = t->columns; /* without empty ones at the end */
	size_t *widest = arena_newn0(t->a, size_t, t->columns);

	for (size_t r = 0; r < t->rows; r++)
		for (size_t i = 0; i < t->columns; i++)
			widest[i] = MAX(widest[i], width_of(t->cell[r * t->columns + i]));
	while (columns > 1 && !widest[columns - 1])
		columns--;
	for (size_t r = 0; r < t->rows; r++)
		for (size_t i = 0; i < columns; i++) {
			const char *text = t->cell[r * t->columns + i];
			bool last = i + 1 == columns;

			printf("%s%*s%s", text, last ? 0 : (int)(widest[i] - width_of(text)), "", last ? "\n" : "   ");
		}
}

char *text_size(struct arena *a, uint64_t bytes)
{
	static const char *const unit[] = { "B", "kB", "MB", "GB", "TB", "PB" };
	double v = (double)bytes;
	size_t u = 0;

	for (; v >= 999.5 && u + 1 < ARRAY_SIZE(unit); u++)
		v /= 1000;
	return arena_printf(a, v < 9.95 && u ? "%.1f%s" : "%.0f%s", v, unit[u]);
}

char *text_ago(struct arena *a, int64_t wall_ns)
{
	static const struct {
		int64_t s;
		const char *name;
	} unit[] = { { 86400 * 365, "year" }, { 86400 * 30, "month" }, { 86400 * 7, "week" }, { 86400, "day" },
		     { 3600, "hour" }, { 60, "minute" }, { 1, "second" } };
	int64_t s = (clock_wall_ns() - wall_ns) / NS_PER_S;

	for (size_t i = 0; i < ARRAY_SIZE(unit); i++)
		if (s >= unit[i].s)
			return arena_printf(a, "%lld %s%s ago", (long long)(s / unit[i].s), unit[i].name,
					    s / unit[i].s == 1 ? "" : "s");
	return arena_strdup(a, "now");
}

const char *text_short_id(struct arena *a, const char *id)
{
	const char *hex = starts_with(id, "sha256:") ? id + 7 : id;

	return arena_strndup(a, hex, MIN(strlen(hex), (size_t)12));
}
