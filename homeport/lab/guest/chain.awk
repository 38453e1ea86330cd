# Walks a file of records and prints what it found, as the shell reads variables.
#
# A record is 64 bytes: kind, number, time, disk, boot, sum, filler. Its sum continues that of the
# record before: each field f in turn gives sum = (sum * 65599 + f) mod 4294967291, which stays
# below 2^53, where awk's numbers are exact.
#
# busybox takes digits after a 0 for octal, hence `decimal`, and cuts %d to 32 bits, hence %.0f.
function decimal(digits) { sub(/^0+/, "", digits); return digits + 0 }
function mix(f) { sum = (sum * 65599 + f) % 4294967291 }
BEGIN {
    code["R"] = 1; code["B"] = 2
    code["os"] = 1; code["data"] = 2
    first = last = count = gaps = bad = breaks = boots = sum = boot = 0
}
{
    number = decimal($2); stamp = decimal($3); boot_here = decimal($5); said = decimal($6)
    again = sprintf("%s %010.0f %010.0f %-4s %06d %010.0f homeport-record.", $1, number, stamp, $4, boot_here, said)
    if ($0 != again || !($1 in code) || $4 != disk) { bad++; next }
    mix(code[$1]); mix(number); mix(stamp); mix(code[$4]); mix(boot_here)
    # A broken link is counted once; the walk goes on from what the record itself says.
    if (sum != said) { breaks++; sum = said }
    if (count > 0 && number != last + 1) gaps++
    if (count == 0) first = number
    if ($1 == "B") boots++
    last = number; boot = boot_here; count++
}
END {
    printf "first=%.0f last=%.0f count=%d gaps=%d bad=%d breaks=%d boots=%d boot=%d sum=%.0f\n", first, last, count, gaps, bad, breaks, boots, boot, sum
}
