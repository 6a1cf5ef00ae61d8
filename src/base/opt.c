#include "base/opt.h"

#include "base/str.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>

static const struct opt *opt_find(const struct opt *opts, struct str name, char letter)
{
	for (const struct opt *o = opts; o->kind; o++)
		if (letter ? o->letter == letter : o->name && str_eqz(name, o->name))
			return o;
	return NULL;
}

static const struct {
	const char *suffix;
	double factor;
} byte_units[] = {
	{ "", 1 }, { "b", 1 }, { "B", 1 },
	{ "k", 1024 }, { "K", 1024 }, { "Ki", 1024 }, { "KiB", 1024 }, { "kB", 1e3 }, { "KB", 1e3 },
	{ "m", 0x1p20 }, { "M", 0x1p20 }, { "Mi", 0x1p20 }, { "MiB", 0x1p20 }, { "MB", 1e6 },
	{ "g", 0x1p30 }, { "G", 0x1p30 }, { "Gi", 0x1p30 }, { "GiB", 0x1p30 }, { "GB", 1e9 },
	{ "t", 0x1p40 }, { "T", 0x1p40 }, { "Ti", 0x1p40 }, { "TiB", 0x1p40 }, { "TB", 1e12 },
};

int opt_parse_bytes(const char *text, int64_t *out, struct err *e)
{
	double v = 0, place = 1;
	const char *p = text;
	bool point = false, any = false;

	for (; (*p >= '0' && *p <= '9') || (*p == '.' && !point); p++) {
		if (*p == '.') {
			point = true;
			continue;
		}
		any = true;
		v = v * 10 + (*p - '0');
		place *= point ? 10 : 1;
	}
	for (size_t i = 0; any && i < ARRAY_SIZE(byte_units); i++)
		if (streq(p, byte_units[i].suffix) && v / place * byte_units[i].factor < 9e18) {
			*out = (int64_t)(v / place * byte_units[i].factor);
			return 0;
		}
	return err_set(e, ERR_INVALID, "\"%s\" is not a size such as 512m or 1Gi", text);
}

static int duration(const char *text, int64_t *out, struct err *e)
{
	int64_t s;

	if (str_to_i64(str_of(text), &s, e) == 0 && s < INT64_MAX / NS_PER_S && s > INT64_MIN / NS_PER_S) {
		*out = s * NS_PER_S;
		return 0;
	}
	return clock_parse_duration(str_of(text), out, e);
}

static int opt_set(struct arena *a, const struct opt *o, const char *value, struct err *e)
{
	switch (o->kind) {
	case OPT_STR:
		*(const char **)o->out = value;
		return 0;
	case OPT_STRV:
		*(char ***)o->out = strv_append(a, *(char ***)o->out, value);
		return 0;
	case OPT_I64:
		return str_to_i64(str_of(value), o->out, e);
	case OPT_BYTES:
		return opt_parse_bytes(value, o->out, e);
	case OPT_DURATION:
		return duration(value, o->out, e);
	case OPT_FLAG:
	case OPT_END:
		break;
	}
	BUG("an option of a kind without value");
}

/* "--name", "--name=value": how many of argv's words it took, -1 on error. */
static int long_option(struct arena *a, const struct opt *opts, char *const *argv, struct err *e)
{
	struct str rest = str_of(argv[0] + 2), name = str_cut(&rest, '=');
	const struct opt *o = opt_find(opts, name, 0);
	const char *value = rest.p ? rest.p : argv[1];

	if (!o)
		return err_set(e, ERR_INVALID, "unknown option --%.*s", STR_ARG(name));
	if (o->kind == OPT_FLAG) {
		if (rest.p && !str_eqz(rest, "true") && !str_eqz(rest, "false"))
			return err_set(e, ERR_INVALID, "option --%s takes no value", o->name);
		*(bool *)o->out = !rest.p || str_eqz(rest, "true");
		return 1;
	}
	if (!value)
		return err_set(e, ERR_INVALID, "option --%s needs a value", o->name);
	if (opt_set(a, o, value, e) < 0)
		return err_in(e, "option --%s", o->name);
	return rest.p ? 1 : 2;
}

/* "-a", "-abc" (flags), "-n value", "-nvalue". */
static int short_options(struct arena *a, const struct opt *opts, char *const *argv, struct err *e)
{
	for (const char *p = argv[0] + 1; *p; p++) {
		const struct opt *o = opt_find(opts, (struct str){ NULL, 0 }, *p);
		const char *value = p[1] ? p + 1 : argv[1];

		if (!o)
			return err_set(e, ERR_INVALID, "unknown option -%c", *p);
		if (o->kind == OPT_FLAG) {
			*(bool *)o->out = true;
			continue;
		}
		if (!value)
			return err_set(e, ERR_INVALID, "option -%c needs a value", *p);
		if (opt_set(a, o, value, e) < 0)
			return err_in(e, "option -%c", *p);
		return p[1] ? 1 : 2;
	}
	return 1;
}

int opts_parse(struct arena *a, const struct opt *opts, int flags, char *const *argv, char ***words,
	       struct err *e)
{
	char **found = arena_newn0(a, char *, strv_len(argv) + 1);
	size_t n = 0;
	bool ended = false;

	for (char *const *p = argv + (argv[0] != NULL); *p;) {
		int took = 1;

		if (!ended && streq(*p, "--")) {
			ended = true;
		} else if (ended || (*p)[0] != '-' || !(*p)[1]) {
			found[n++] = *p;
			ended = ended || flags & OPTS_STOP_AT_WORD;
		} else {
			took = (*p)[1] == '-' ? long_option(a, opts, p, e) : short_options(a, opts, p, e);
			if (took < 0)
				return -1;
		}
		p += took;
	}
	*words = found;
	return 0;
}

char *opts_help(struct arena *a, const struct opt *opts)
{
	char *text = arena_strdup(a, "");

	for (const struct opt *o = opts; o->kind; o++) {
		char *letter = o->letter ? arena_printf(a, "-%c%s", o->letter, o->name ? ", " : "") :
					   arena_strdup(a, "    ");
		char *left = arena_printf(a, "%s%s%s%s%s", letter, o->name ? "--" : "",
					  o->name ? o->name : "", o->arg ? " " : "", o->arg ? o->arg : "");

		text = arena_printf(a, "%s  %-30s %s\n", text, left, o->help);
	}
	return text;
}
