#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t ns_of(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts) < 0)
		BUG("clock_gettime failed");
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t clock_wall_ns(void)
{
	return ns_of(CLOCK_REALTIME);
}

int64_t clock_mono_ns(void)
{
	return ns_of(CLOCK_MONOTONIC);
}

/* Days from 1970-01-01 to a date and back (Howard Hinnant's civil calendar algorithms). */
static int64_t days_from_civil(int64_t y, unsigned m, unsigned d)
{
	int64_t era;
	unsigned yoe, doy, doe;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = (unsigned)(y - era * 400);
	doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
	doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
	return era * 146097 + (int64_t)doe - 719468;
}

static void civil_from_days(int64_t z, int64_t *y, unsigned *m, unsigned *d)
{
	int64_t era;
	unsigned doe, yoe, doy, mp;

	z += 719468;
	era = (z >= 0 ? z : z - 146096) / 146097;
	doe = (unsigned)(z - era * 146097);
	yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	mp = (5 * doy + 2) / 153;
	*d = doy - (153 * mp + 2) / 5 + 1;
	*m = mp < 10 ? mp + 3 : mp - 9;
	*y = (int64_t)yoe + era * 400 + (*m <= 2);
}

void clock_format_rfc3339(int64_t wall_ns, char out[CLOCK_TEXT_MAX])
{
	int64_t s = wall_ns / NS_PER_S, ns = wall_ns % NS_PER_S, days, year;
	unsigned month, day;
	int64_t of_day;

	if (ns < 0) {
		ns += NS_PER_S;
		s--;
	}
	days = (s >= 0 ? s : s - 86399) / 86400;
	of_day = s - days * 86400;
	civil_from_days(days, &year, &month, &day);
	(void)snprintf(out, CLOCK_TEXT_MAX, "%04lld-%02u-%02uT%02d:%02d:%02d.%09lldZ", (long long)year,
		       month, day, (int)(of_day / 3600), (int)(of_day / 60 % 60), (int)(of_day % 60),
		       (long long)ns);
}

static bool digits(struct str s, size_t at, size_t n, unsigned *out)
{
	unsigned v = 0;

	if (at + n > s.len)
		return false;
	for (size_t i = at; i < at + n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		v = v * 10 + (unsigned)(s.p[i] - '0');
	}
	*out = v;
	return true;
}

int clock_parse_rfc3339(struct str s, int64_t *wall_ns, struct err *e)
{
	unsigned y, mo, d, h, mi, sec, oh = 0, om = 0;
	int64_t frac = 0, scale = NS_PER_S / 10, t;
	size_t at = 19;
	int sign = 0;

	if (!digits(s, 0, 4, &y) || !digits(s, 5, 2, &mo) || !digits(s, 8, 2, &d) ||
	    !digits(s, 11, 2, &h) || !digits(s, 14, 2, &mi) || !digits(s, 17, 2, &sec) ||
	    s.p[4] != '-' || s.p[7] != '-' || (s.p[10] | 32) != 't' || s.p[13] != ':' ||
	    s.p[16] != ':' || mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || sec > 60)
		return err_set(e, ERR_INVALID, "\"%.*s\" is not an RFC 3339 time", STR_ARG(s));
	if (at < s.len && s.p[at] == '.')
		for (at++; at < s.len && s.p[at] >= '0' && s.p[at] <= '9'; at++, scale /= 10)
			frac += (s.p[at] - '0') * scale;
	if (at < s.len && (s.p[at] | 32) == 'z')
		at++;
	else if (at + 6 == s.len && (s.p[at] == '+' || s.p[at] == '-') && s.p[at + 3] == ':' &&
		 digits(s, at + 1, 2, &oh) && digits(s, at + 4, 2, &om)) {
		sign = s.p[at] == '+' ? 1 : -1;
		at += 6;
	} else
		at = s.len + 1;
	if (at != s.len)
		return err_set(e, ERR_INVALID, "\"%.*s\" is not an RFC 3339 time", STR_ARG(s));
	t = days_from_civil(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec;
	t -= sign * (int64_t)(oh * 3600 + om * 60);
	if (t > INT64_MAX / NS_PER_S - 1 || t < INT64_MIN / NS_PER_S + 1)
		return err_set(e, ERR_INVALID, "\"%.*s\" is out of range", STR_ARG(s));
	*wall_ns = t * NS_PER_S + frac;
	return 0;
}

static const struct unit {
	const char *name;
	int64_t ns;
} units[] = {
	{ "ns", 1 }, { "us", 1000 }, { "ms", NS_PER_MS },
	{ "h", 3600 * NS_PER_S }, { "m", 60 * NS_PER_S }, { "s", NS_PER_S },
};

int clock_parse_duration(struct str s, int64_t *ns, struct err *e)
{
	struct str rest = s;
	double total = 0;

	if (!rest.len)
		return err_set(e, ERR_INVALID, "expected a duration such as \"30s\", found nothing");
	while (rest.len) {
		double v = 0, place = 1;
		const struct unit *u = NULL;
		bool any = false, point = false;

		for (; rest.len && ((*rest.p >= '0' && *rest.p <= '9') || (*rest.p == '.' && !point));
		     rest.p++, rest.len--) {
			if (*rest.p == '.') {
				point = true;
				continue;
			}
			any = true;
			v = v * 10 + (*rest.p - '0');
			place *= point ? 10 : 1;
		}
		for (size_t i = 0; i < ARRAY_SIZE(units) && !u; i++)
			if (str_starts(rest, units[i].name))
				u = &units[i];
		if (!any || !u)
			return err_set(e, ERR_INVALID, "\"%.*s\" is not a duration such as \"30s\" or \"1m30s\"",
				       STR_ARG(s));
		rest.p += strlen(u->name);
		rest.len -= strlen(u->name);
		total += v / place * (double)u->ns;
	}
	if (total > 9e18)
		return err_set(e, ERR_INVALID, "duration %.*s is too long", STR_ARG(s));
	*ns = (int64_t)total;
	return 0;
}
