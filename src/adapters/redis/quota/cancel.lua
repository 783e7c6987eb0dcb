-- A request that waited asks no more.
-- Request  tenant   place: its id
local bookings = bookingsOf(request.tenant, 0)
withoutPlace(bookings, request.place)
storeBookings(request.tenant, bookings, isCompeting(request.tenant))
if #bookings.waiting == 0 then leave(request.tenant) end
return reply('ok')
