// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lists of CPUs: "2,3", "4-7", "8,4-6".  Their order is kept, for it says which
 * vCPU gets which CPU.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "tool.h"

/* More than any kernel takes; keeps a mistyped range from eating all memory. */
#define CPU_LIMIT	65536

static bool number(const char **text, unsigned long *value)
{
	char *end;

	if (!isdigit((unsigned char)**text))
		return false;
	errno = 0;
	*value = strtoul(*text, &end, 10);
	*text = end;
	return !errno && *value < CPU_LIMIT;
}

/**
 * cpulist_has - does a list name a CPU?
 */
bool cpulist_has(const struct cpulist *list, __u32 cpu)
{
	for (unsigned int i = 0; i < list->count; i++)
		if (list->cpus[i] == cpu)
			return true;
	return false;
}

/**
 * cpulist_parse - read a list
 * @text: the list
 * @list: where to; to be freed with free(list->cpus)
 *
 * Return: NULL, or what is wrong with the list.
 */
const char *cpulist_parse(const char *text, struct cpulist *list)
{
	unsigned long first, last;

	list->count = 0;
	list->cpus = calloc(CPU_LIMIT, sizeof(*list->cpus));
	if (!list->cpus)
		return "no memory";

	for (;;) {
		if (!number(&text, &first))
			return "expected a CPU number";
		last = first;
		if (*text == '-') {
			text++;
			if (!number(&text, &last))
				return "expected a CPU number after '-'";
			if (last < first)
				return "a range goes from the lower to the higher CPU";
		}
		for (; first <= last; first++) {
			if (cpulist_has(list, first))
				return "a CPU is listed twice";
			list->cpus[list->count++] = first;
		}
		if (!*text)
			return NULL;
		if (*text++ != ',')
			return "CPUs are separated by ','";
	}
}
