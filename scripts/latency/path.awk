# SPDX-License-Identifier: GPL-2.0
#
# The instructions that an IPI of the guest takes in the host, one to a line, from the
# disassembly of __vmx_vcpu_run_exclusive() or __svm_vcpu_run_exclusive():
#
#   objdump -d ... | awk -v entry=vmresume|vmrun \
#	-v what=unicast-physical|unicast-cluster|self-ipi -f path.awk
#
# It begins at the VM exit and ends with the next entry.  A conditional jump leads to C or
# to more than one destination and is not taken, but for those below.  The alternatives'
# NOPs are one long NOP in a kernel that runs.  Whether the way is right is seen by its length,
# which report.awk compares with what was measured.

/^[0-9a-f]+ <.*>:$/ {
	label = $2
	gsub(/[<>:]/, "", label)
	next
}

/^ *[0-9a-f]+:\t/ {
	addr = $1
	sub(/:$/, "", addr)
	text = $0
	sub(/^ *[0-9a-f]+:\t/, "", text)
	sub(/ *[#<].*/, "", text)
	gsub(/[ \t]+/, " ", text)
	sub(/ $/, "", text)
	insn[++n] = text
	index_of[addr] = n
	if (!start && (label == "vmx_exclusive_vmexit" || before == "vmrun"))
		start = n
	before = text
	sub(/ .*/, "", before)
}

END {
	for (i = start; i && i <= n; ) {
		split(insn[i], word, " ")
		if (word[1] == "nop" && nop) {
			i++
			continue
		}
		nop = word[1] == "nop"
		# Where a jump leads is an address, which says nothing here.
		print word[1] ~ /^j/ ? word[1] : insn[i]
		if (word[1] == entry)
			exit 0
		jump = word[1] == "jmp"
		# Not the ICR; a logical destination.
		if (what == "self-ipi" && word[1] == "jne" && last ~ /^cmp \$0x830,/)
			jump = 1
		if (what == "unicast-cluster" && word[1] == "jb" && last ~ /^btr \$0xb,/)
			jump = 1
		last = insn[i]
		i = jump ? index_of[word[2]] : i + 1
		if (++steps > 500)
			exit 1
	}
	exit 1
}
